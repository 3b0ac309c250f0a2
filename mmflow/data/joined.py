"""Data with the values of stages joined to it: a column by the ids of its rows, a static output as it is.

A column whose ids are those of another axis (`node`) joins the static fields of that axis: their ids are in the field
`<axis>.id`, or else their numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from pydantic import ConfigDict

from mmflow.artifacts import StaticArtifact
from mmflow.artifacts.cells import StoredRows
from mmflow.artifacts.columns import VALUE
from mmflow.data.samples import static_ids
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import LeftOut, Reader, ShardReader, Source, Streaming
from mmflow.plugin.samples import read_sample
from mmflow.plugin.values import Json, RawValue, Sample, TensorType

SINGLE = "value"
"""The axis of a static output that is a single value."""


@runtime_checkable
class JoinedValues(Protocol):
    """Values that join data. Picklable, as loader workers have their own."""

    type: TensorType
    own_rows: bool
    """Whether the rows are those of an axis of their own, and join as they are."""

    def value(self, id: str, near: int) -> RawValue:
        """The value of a row, None where absent; `near` is the place where it would be if the rows were the same."""
        ...

    def rows(self) -> Sequence[RawValue]:
        """Of values of an axis of their own: all of them."""
        ...


class StoredColumn:
    """A stage's column, as it is stored."""

    own_rows = False

    def __init__(self, rows: StoredRows, type_: TensorType) -> None:
        self._rows, self.type = rows, type_

    def value(self, id: str, near: int) -> RawValue:
        place = self._rows.place(id, near)
        return None if place is None else self._rows.value(VALUE, place)

    def rows(self) -> Sequence[RawValue]:
        raise TypeError("the rows of a column are those of the data that it joins")


class StoredStatic:
    """A stage's static output, as it is stored."""

    own_rows = True

    def __init__(self, artifact: StaticArtifact) -> None:
        self._artifact = artifact
        declared = artifact.type()
        self.type = declared if declared.axes else declared.with_(axes=(SINGLE,))

    def value(self, id: str, near: int) -> RawValue:
        raise TypeError("a static output has no value for a row")

    def rows(self) -> Sequence[RawValue]:
        values, declared = self._artifact.read()
        return list(values) if declared.axes else [values]


class BlankValues:
    """Values of a stage that has not run: blank ones of the declared type, for checks."""

    def __init__(self, type_: TensorType, own_rows: bool) -> None:
        from mmflow.plugin.modality import modality

        self.type, self.own_rows = type_ if type_.axes else type_.with_(axes=(SINGLE,)), own_rows
        self._blank = modality(type_.modality).blank(type_)

    def value(self, id: str, near: int) -> RawValue:
        return self._blank

    def rows(self) -> Sequence[RawValue]:
        return [self._blank] * (len(self.type.names) or 2)


class Joined(Source, name="joined"):
    """A source with further fields. It is made for a running stage, and no spec names it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    of: Source
    columns: dict[str, JoinedValues]
    """By the name of the field that they become."""

    def fields(self) -> Mapping[str, TensorType]:
        return {**self.of.fields(), **{name: column.type for name, column in self.columns.items()}}

    def open(self) -> Reader | ShardReader:
        reader = self.of.open()
        made = _JoinedShards if isinstance(reader, ShardReader) else _JoinedReader
        return made(reader, self.columns, self.of.fields())

    def streaming(self) -> Streaming | None:
        return self.of.streaming()

    def fingerprint(self) -> Json:
        return self.of.fingerprint()

    def left_out(self) -> Sequence[LeftOut]:
        return self.of.left_out()

    def spoken_of(self) -> Source:
        return self.of.spoken_of()


class _Values:
    """What readers of joined data share: the values of a row, and of axes of their own."""

    def __init__(self, reader: Any, columns: Mapping[str, JoinedValues], fields: Mapping[str, TensorType]) -> None:
        self.reader, self.columns, self._fields = reader, columns, fields
        self.in_process = bool(getattr(reader, "in_process", False))
        self.of_rows = {name: column for name, column in columns.items() if not column.type.static}

    def split(self, fields: Collection[str] | None) -> tuple[Collection[str] | None, list[str]]:
        """Fields of the data itself, and those that join it."""
        if fields is None:
            return None, list(self.of_rows)
        return [f for f in fields if f not in self.columns], [f for f in fields if f in self.of_rows]

    def values(self, id: str, near: int, names: Sequence[str]) -> dict[str, RawValue]:
        return {name: self.of_rows[name].value(id, near) for name in names}

    def static(self) -> Mapping[str, RawValue]:
        found: dict[str, RawValue] = dict(self.reader.static())
        for name, column in self.columns.items():
            if column.own_rows:
                found[name] = column.rows()
            elif column.type.static:
                try:
                    ids = static_ids(self._fields, found, column.type.axes[0])
                except KeyError as error:
                    raise ComponentError(f"the column {name!r} joins no rows of this data: {error.args[0]}") from None
                found[name] = [column.value(id, place) for place, id in enumerate(ids)]
        return found


class _JoinedReader(_Values):
    """A `Reader` of joined data."""

    reader: Reader

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        if (index := getattr(self.reader, "index", None)) is not None:
            self.index = index

    def __len__(self) -> int:
        return len(self.reader)

    def id(self, index: int) -> str:
        return self.reader.id(index)

    def read(self, index: int, fields: Collection[str] | None) -> Sample:
        own, names = self.split(fields)
        # Where only joined fields are wanted, the sample itself is not read.
        sample = read_sample(self.reader, index, own) if own is None or own or not names else {}
        return {**sample, **self.values(self.reader.id(index), index, names)}

    def __getitem__(self, index: int) -> Sample:
        return self.read(index, None)


class _JoinedShards(_Values):
    """A `ShardReader` of joined data."""

    reader: ShardReader

    def shards(self) -> Sequence[str]:
        return self.reader.shards()

    def shard(self, number: int, fields: Collection[str]) -> Iterator[tuple[str, RawValue]]:
        own, _ = self.split(fields)
        return self.reader.shard(number, own or ())

    def decode(self, id: str, raw: RawValue, fields: Collection[str]) -> Sample:
        own, names = self.split(fields)
        return {**self.reader.decode(id, raw, own or ()), **self.values(id, -1, names)}


__all__ = ["BlankValues", "Joined", "JoinedValues", "StoredColumn", "StoredStatic"]
