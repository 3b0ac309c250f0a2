"""Files, members and columns that belong to no sample: counted by reason, and named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mmflow.plugin import LeftOut
from mmflow_sources.names import shown

NAMED = 3
"""Names that are kept for each reason."""


@dataclass
class Tally:
    """Counts by reason; `tuple(tally)` gives them, the largest first."""

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    names: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, name: str, reason: str, unit: str = "file") -> None:
        """Count one: a file, a member or a column called `name`."""
        key = (unit, reason)
        self.counts[key] = self.counts.get(key, 0) + 1
        if len(kept := self.names.setdefault(key, [])) < NAMED:
            kept.append(shown(name))

    def __iter__(self) -> Iterator[LeftOut]:
        for (unit, reason), count in sorted(self.counts.items(), key=lambda item: -item[1]):
            yield LeftOut(count, unit, reason, tuple(self.names[unit, reason]))
