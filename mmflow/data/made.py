"""Data that a stage has made, as a source: its stored rows, or rows of other data with fields added to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property

from pydantic import ConfigDict

from mmflow.artifacts import DataArtifact
from mmflow.artifacts.data import CONTINUES
from mmflow.plugin.kinds import Reader, Source
from mmflow.plugin.modality import modality
from mmflow.plugin.samples import read_sample, with_random_access
from mmflow.plugin.values import RawValue, Sample, TensorType


class MadeData(Source, name="stage"):
    """Rows that a stage has made. It is made for a running stage, and no spec names it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    path: str
    """The reference to it, for messages."""
    artifact: DataArtifact
    of: Source | None = None
    """The data that the stage read, whose rows these continue, where they do."""

    def fields(self) -> Mapping[str, TensorType]:
        return {**(self.of.fields() if self.of is not None else {}), **self.artifact.types()}

    def open(self) -> Reader:
        continued = with_random_access(self.of).open() if self.of is not None else None
        return _MadeReader(self.artifact, continued)


class BlankData(Source, name="blank"):
    """Two rows of blank values, for checks of data that no stage has made yet."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    path: str
    types: dict[str, TensorType]

    def fields(self) -> Mapping[str, TensorType]:
        return self.types

    def open(self) -> Reader:
        return _BlankReader(self.types)


class _MadeReader:
    def __init__(self, artifact: DataArtifact, continued: Reader | None) -> None:
        self._artifact, self._rows, self._continued = artifact, artifact.rows(), continued

    def __len__(self) -> int:
        return len(self._rows.ids)

    def id(self, index: int) -> str:
        return self._rows.ids[index]

    def index(self, id: str) -> int:
        place = self._rows.place(id)
        if place is None:
            raise KeyError(id)
        return place

    def read(self, index: int, fields: Collection[str] | None) -> Sample:
        known = self._rows.types
        sample: dict[str, RawValue] = {}
        if self._continued is not None:
            own = None if fields is None else [field for field in fields if field not in known]
            if own is None or own:
                sample.update(read_sample(self._continued, self._place(self._rows.value(CONTINUES, index)), own))
        for name in known if fields is None else fields:
            if name in known:
                sample[name] = self._rows.value(name, index)
        sample["id"] = self.id(index)
        return sample

    def __getitem__(self, index: int) -> Sample:
        return self.read(index, None)

    def static(self) -> Mapping[str, RawValue]:
        above = self._continued.static() if self._continued is not None else {}
        return {**above, **{name: list(one.read()[0]) for name, one in self._artifact.static().items()}}

    def _place(self, id: str) -> int:
        find = getattr(self._continued, "index", None)
        return find(id) if find is not None else self._places[id]

    @cached_property
    def _places(self) -> dict[str, int]:
        reader = self._continued
        return {} if reader is None else {reader.id(index): index for index in range(len(reader))}


class _BlankReader:
    def __init__(self, declared: Mapping[str, TensorType]) -> None:
        self._declared = declared

    def __len__(self) -> int:
        return 2

    def id(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Sample:
        return {name: _blank(type_, type_.groups) for name, type_ in self._declared.items() if not type_.static}

    def static(self) -> Mapping[str, RawValue]:
        found = {name: type_ for name, type_ in self._declared.items() if type_.static}
        return {name: [_blank(type_, type_.groups)] * (len(type_.names) or 2) for name, type_ in found.items()}


def _blank(declared: TensorType, groups: tuple[int | None, ...]) -> RawValue:
    if groups:
        return [_blank(declared, groups[1:]) for _ in range(groups[0] or 1)]
    return modality(declared.modality).blank(declared)


__all__ = ["BlankData", "MadeData"]
