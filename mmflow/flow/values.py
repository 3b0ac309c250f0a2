"""What a stage reads of other stages, and what it writes itself: each by the name of its field, or of its output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmflow.artifacts import (
    ColumnArtifact,
    DataArtifact,
    FilesArtifact,
    MetricsArtifact,
    ModelArtifact,
    StaticArtifact,
)
from mmflow.flow.sources import Sources, no_data
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import ColumnValues, DataRows, Source, StageContext, StageModel
from mmflow.plugin.targets import STAGE, Place, Target
from mmflow.plugin.values import Metric, RawValue, TensorType

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from mmflow.spec import Scope


class StageValues:
    """The inputs and outputs of one stage, as `StageContext` has them."""

    name: str
    scope: Scope
    output: Path

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    # --- inputs ----------------------------------------------------------------------------------------

    def upstream(self, stage: str) -> Path:
        raise NotImplementedError

    def column(self, *place: str | int) -> ColumnValues:
        target = self._target(place)
        artifact = ColumnArtifact.find(self.upstream(target.name), target.name, target.output)
        rows = artifact.read()
        stored = artifact.type()
        declared = stored if stored.modality != "unknown" else self.scope.type_of(target)
        return ColumnValues(list(rows), list(rows.values()), declared)

    def static(self, *place: str | int) -> tuple[np.ndarray, TensorType]:
        target = self._target(place)
        return StaticArtifact(self.upstream(target.name), str(target.output)).read()

    def files(self, *place: str | int) -> Mapping[str, Path]:
        target = self._target(place)
        return FilesArtifact(self.upstream(target.name), str(target.output)).read()

    def metrics(self, *place: str | int) -> list[Metric]:
        target = self._target(place)
        stored = MetricsArtifact(self.upstream(target.name)).read().get("metrics", [])
        return [Metric.read(metric) for metric in stored]

    def source(self, data: Target | Mapping[str, Target] | None = None) -> Source:
        found = self.scope.source if data is None else self._sources.of(self.scope, data)
        if found is None:
            raise no_data(self.name)
        return found

    def rows(self, *fields: str) -> DataRows:
        from mmflow.evaluate.fields import read_rows

        return read_rows(self._context(), fields)

    def scan(self, *fields: str, batch_size: int = 256) -> Iterator[DataRows]:
        from mmflow.evaluate.fields import scan_rows

        return scan_rows(self._context(), fields, batch_size)

    def model(self) -> StageModel:
        from mmflow.evaluate.fields import used_model

        return used_model(self._context())

    # --- outputs ---------------------------------------------------------------------------------------

    def write_column(
        self,
        name: str,
        ids: Sequence[str],
        values: Tensor | Sequence[RawValue],
        type_: TensorType | None = None,
        present: Tensor | None = None,
    ) -> None:
        ColumnArtifact(self.output, self._given(name, "Column")).write(ids, values, present, type_ or self._type(name))

    def write_static(self, name: str, values: np.ndarray, type_: TensorType | None = None) -> None:
        declared = type_ or self._type(name)
        if declared is None:
            raise ComponentError(f"stage {self.name} declares no type of its output {name!r}", hint="give `type_`")
        StaticArtifact(self.output, self._given(name, "Static")).write(values, declared)

    def write_data(
        self,
        name: str,
        ids: Sequence[str],
        fields: Mapping[str, Sequence[RawValue]],
        types: Mapping[str, TensorType],
        *,
        static: Mapping[str, np.ndarray] | None = None,
        continues: Sequence[str] | None = None,
    ) -> None:
        if twice := len(ids) - len(set(ids)):
            raise ComponentError(f"stage {self.name}: {twice} ids of {name!r} stand twice", hint="each row has its own")
        artifact = DataArtifact(self.output, self._given(name, "Data"))
        artifact.write(ids, fields, types, static=static, continues=continues)

    def write_files(self, name: str) -> Path:
        return FilesArtifact(self.output, self._given(name, "Files")).create()

    def write_model(self, weights: Mapping[str, Tensor] | None = None) -> None:
        from mmflow.evaluate.fields import write_model

        write_model(self._context(), weights or {}, ModelArtifact(self.output))

    # --- helpers ---------------------------------------------------------------------------------------

    def _context(self) -> StageContext:
        raise NotImplementedError

    def _target(self, place: Place) -> Target:
        target = self.scope.targets(STAGE).get(place)
        if target is None or target.section != "stages":
            said = ".".join(map(str, place))
            raise ComponentError(f"stage {self.name}: `{said}` leads to no output of a stage", found=str(target))
        return target

    def _given(self, name: str, kind: str) -> str:
        """The name of an output that the stage says it gives."""
        gives = self.scope.declaration.given()
        if gives.get(name, gives.get("*")) != kind:
            expected = ", ".join(f"{given} ({of})" for given, of in gives.items())
            raise ComponentError(f"stage {self.name} gives no {kind} {name!r}", expected=expected)
        return name

    def _type(self, name: str) -> TensorType | None:
        """The declared type of an output; None where the values must tell."""
        found = self.scope.given().get(name)
        return found if isinstance(found, TensorType) and found.modality != "unknown" else None
