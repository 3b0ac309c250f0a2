"""The data of a stage as it is when the stage runs: entries of data, rows that stages have made, what joins them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmflow.artifacts import ColumnArtifact, DataArtifact, StaticArtifact
from mmflow.artifacts.data import CONTINUES
from mmflow.data.joined import Joined, JoinedValues, StoredColumn, StoredStatic
from mmflow.data.made import MadeData
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Source
from mmflow.plugin.streams import Bound, Streams, as_read, axis_of
from mmflow.plugin.targets import Target
from mmflow.spec.components.refresh import bare

if TYPE_CHECKING:
    from mmflow.spec import Scope, Spec

Upstream = Callable[[str], Path]
"""The local directory with the outputs of a stage."""


class Sources:
    """Opens the data that stages of one spec name, from the outputs of earlier stages that `upstream` gives."""

    def __init__(self, spec: Spec, upstream: Upstream, inner: Mapping[str, Path] | None = None) -> None:
        self._spec, self._upstream = spec, upstream
        self._inner = inner or {}
        """The outputs of stages inside the one that reads, as far as they are there."""

    def of(self, scope: Scope, data: Target | Mapping[str, Target] | None = None) -> Source | None:
        """The data that a stage reads (or other data) with the values that join it; None where it names none."""
        data = data or scope.data
        if data is None:
            return None
        if isinstance(data, Mapping):
            streams = {name: self._stream(scope, name, self._at(target)) for name, target in data.items()}
            return Streams(of={n: Bound(of=source, names=(n,), axis=axis_of(n)) for n, source in streams.items()})
        source, joined = as_read(scope.declaration, self._at(data)), scope.joined
        return Joined(of=source, columns=self.values(joined)) if joined else source

    def _stream(self, scope: Scope, name: str, source: Source) -> Source:
        joined = {f.removeprefix(f"{name}."): t for f, t in scope.joined.items() if f.startswith(f"{name}.")}
        return Joined(of=source, columns=self.values(joined)) if joined else source

    def values(self, joined: Mapping[str, Target]) -> dict[str, JoinedValues]:
        """The stored values behind outputs of stages, by the names of the fields that they become.

        Those of stages inside the one that reads may not be there yet.
        """
        there = {name: t for name, t in joined.items() if t.name in self._inner or bare(t.name) not in self._spec.inner}
        return {name: stored_values(self._at_hand(target.name), target) for name, target in there.items()}

    def _at_hand(self, stage: str) -> Path:
        return self._inner[stage] if stage in self._inner else self._upstream(stage)

    def _at(self, data: Target) -> Source:
        if data.section == "data":
            return self._spec.data[data.name]
        artifact = DataArtifact(self._at_hand(data.name), str(data.output))
        continued = None
        if CONTINUES in artifact.rows().names():
            continued = self.of(self._spec.scope(data.name))
        return MadeData(path=str(data), artifact=artifact, of=continued)


def stored_values(output: Path, target: Target) -> JoinedValues:
    """The values of a stage's output, a column or a static one; raises `ComponentError` where there are none."""
    static = StaticArtifact(output, str(target.output))
    if static.exists():
        return StoredStatic(static)
    column = ColumnArtifact.find(output, target.name, target.output)
    return StoredColumn(column.rows(), column.type())


def no_data(stage: str) -> ComponentError:
    """The error of a stage that reads data and names none."""
    return ComponentError(f"stage {stage} names no data to read")
