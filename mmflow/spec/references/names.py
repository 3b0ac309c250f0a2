"""The names that one stage sees, and how a reference that leads nowhere is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmflow.plugin.references import RefType
from mmflow.spec.components.entry import Entry

NODES = ("views", "encoders", "memories", "losses", "parts")
SECTIONS = ("fields", *NODES, "stages", "data", "sampler")
INIT = "init"
"""The model before any training, where a stage is named."""

SINGULAR: Mapping[str, str] = {
    "fields": "a field",
    "views": "a view",
    "encoders": "an encoder",
    "memories": "a memory",
    "losses": "a loss",
    "parts": "a part",
    "stages": "a stage",
    "data": "an entry of data",
    "sampler": "a field of the sampler",
}


class BadReference(Exception):
    """A reference that leads nowhere, with the parts of its problem."""

    def __init__(
        self, message: str, *, found: str | None = None, expected: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.found, self.expected, self.hint = message, found, expected, hint


@dataclass
class StageNames:
    """The stages of a spec as a reference sees them: their outputs (None: unknown) and the encoders inside them."""

    gives: dict[str, Mapping[str, str] | None] = field(default_factory=dict)
    encoders: dict[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """The names that one stage sees: entries by section, entries of data, stages, and the stage itself."""

    entries: Mapping[str, Mapping[str, Entry]]
    data: Sequence[str]
    stages: StageNames
    stage: Entry | None


def expected_of(wanted: Sequence[type[RefType]]) -> str:
    """In words, where a reference of one of these types must lead."""
    return " or ".join(dict.fromkeys(kind.says for kind in wanted))
