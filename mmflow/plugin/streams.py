"""Data under the names of streams: the fields of the stream `pool` are `pool.image`, `pool.label`, its row axis
`sample.pool`. These sources are made for a stage, and no spec names them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from mmflow.plugin.component import Component
from mmflow.plugin.kinds import DataStage, LeftOut, Reader, ShardReader, Source, Streaming, View
from mmflow.plugin.samples import read_sample
from mmflow.plugin.values import SAMPLE, Json, RawValue, Sample, TensorType

TASTED: Final = 64
"""Samples of a stream without random access that stand for all of them where streams are read side by side."""


def axis_of(stream: str) -> str:
    """The row axis of a stream."""
    return f"{SAMPLE}.{stream}"


def stream_of(axis: str) -> str:
    """The stream whose row axis this is; empty for any other axis."""
    return axis.removeprefix(f"{SAMPLE}.") if axis.startswith(f"{SAMPLE}.") else ""


class Bound(Source, name="bound"):
    """A source whose fields have the name of a stream in front, or of several that read the same rows."""

    of: Source
    names: tuple[str, ...]
    axis: str = SAMPLE

    def fields(self) -> Mapping[str, TensorType]:
        inner = self.of.fields()
        return {f"{name}.{field}": on_axis(type_, self.axis) for name in self.names for field, type_ in inner.items()}

    def open(self) -> Any:
        reader = self.of.open()
        made = _BoundShards if isinstance(reader, ShardReader) else _BoundReader
        return made(reader, self.names)

    def streaming(self) -> Streaming | None:
        return self.of.streaming()

    def fingerprint(self) -> Json:
        return self.of.fingerprint()

    def left_out(self) -> Sequence[LeftOut]:
        return self.of.left_out()

    def spoken_of(self) -> Source:
        return self.of.spoken_of()


class Streams(Source, name="streams"):
    """Several streams. Opened as a whole, its rows are one of each, the shorter ones beginning again: for checks, and
    for what is the same for all rows. A training draws from each stream by itself."""

    of: dict[str, Source]

    def fields(self) -> Mapping[str, TensorType]:
        return {name: type_ for source in self.of.values() for name, type_ in source.fields().items()}

    def open(self) -> Any:
        return _SideBySide([source.open() for source in self.of.values()])

    def left_out(self) -> Sequence[LeftOut]:
        return [found for source in self.of.values() for found in source.left_out()]

    def spoken_of(self) -> Source:
        return next(iter(self.of.values())).spoken_of()

    def holding(self, fields: Collection[str]) -> Source:
        """The stream with these fields; raises `KeyError` where none has all of them."""
        for source in self.of.values():
            if set(fields) <= set(source.fields()):
                return source
        raise KeyError(f"no stream has {' and '.join(fields)}")


def as_read(stage: Component | View | None, source: Source) -> Source:
    """A source as a stage that does not train reads it: under the names of streams where it says some."""
    names = tuple(stage.streams()) if isinstance(stage, DataStage) and not stage.trains else ()
    return Bound(of=source, names=names) if names else source


def on_axis(type_: TensorType, axis: str) -> TensorType:
    """The type of a field with the row axis of a stream; one without samples stays as it is."""
    return type_ if type_.static else type_.with_(axes=(axis, *type_.axes[1:]))


class _Named:
    """What readers of a stream share: its names in front of fields."""

    def __init__(self, reader: Any, names: Sequence[str]) -> None:
        self.reader, self.names = reader, tuple(names)
        self.in_process = bool(getattr(reader, "in_process", False))

    def inner(self, fields: Collection[str]) -> tuple[str, ...]:
        """The fields of the source itself."""
        found = [
            field.removeprefix(f"{name}.") for field in fields for name in self.names if field.startswith(f"{name}.")
        ]
        return tuple(dict.fromkeys(found))

    def outer(self, sample: Sample) -> dict[str, RawValue]:
        return {f"{name}.{field}": value for name in self.names for field, value in sample.items()}

    def static(self) -> Mapping[str, RawValue]:
        return self.outer(self.reader.static())


class _BoundReader(_Named):
    """A `Reader` of a stream."""

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
        own = None if fields is None else self.inner(fields)
        return self.outer({"id": self.reader.id(index), **read_sample(self.reader, index, own)})

    def __getitem__(self, index: int) -> Sample:
        return self.read(index, None)


class _BoundShards(_Named):
    """A `ShardReader` of a stream."""

    reader: ShardReader

    def shards(self) -> Sequence[str]:
        return self.reader.shards()

    def shard(self, number: int, fields: Collection[str]) -> Iterator[tuple[str, RawValue]]:
        return self.reader.shard(number, self.inner(fields))

    def decode(self, id: str, raw: RawValue, fields: Collection[str]) -> Sample:
        return self.outer({"id": id, **self.reader.decode(id, raw, self.inner(fields))})


class _SideBySide:
    """A `Reader` whose samples hold one of each stream."""

    def __init__(self, readers: Sequence[Any]) -> None:
        self.readers = [_FirstSamples(reader) if isinstance(reader, ShardReader) else reader for reader in readers]
        self.in_process = any(bool(getattr(reader, "in_process", False)) for reader in readers)

    def __len__(self) -> int:
        return max(map(len, self.readers), default=0)

    def id(self, index: int) -> str:
        first = next(reader for reader in self.readers if len(reader))
        return first.id(index % len(first))

    def read(self, index: int, fields: Collection[str] | None) -> Sample:
        found: dict[str, RawValue] = {}
        for reader in filter(len, self.readers):
            found.update(read_sample(reader, index % len(reader), fields))
        return found

    def __getitem__(self, index: int) -> Sample:
        return self.read(index, None)

    def static(self) -> Mapping[str, RawValue]:
        return {name: value for reader in self.readers for name, value in reader.static().items()}


class _FirstSamples:
    """The first samples of a stream without random access, as a `Reader`."""

    def __init__(self, reader: ShardReader) -> None:
        self.reader = reader
        self._first: list[tuple[str, RawValue]] | None = None
        self._fields: tuple[str, ...] = ()

    def _read(self, fields: Collection[str]) -> list[tuple[str, RawValue]]:
        if self._first is None or not set(fields) <= set(self._fields):
            self._fields = tuple(fields)
            shards = range(len(self.reader.shards()))
            each = (one for number in shards for one in self.reader.shard(number, self._fields))
            self._first = list(islice(each, TASTED))
        return self._first

    def __len__(self) -> int:
        return len(self._read(()))

    def id(self, index: int) -> str:
        return self._read(())[index][0]

    def read(self, index: int, fields: Collection[str] | None) -> Sample:
        id, raw = self._read(fields or ())[index]
        return self.reader.decode(id, raw, fields or ())

    def __getitem__(self, index: int) -> Sample:
        return self.read(index, None)

    def static(self) -> Mapping[str, RawValue]:
        return self.reader.static()


__all__ = ["Bound", "Streams", "as_read", "axis_of", "on_axis", "stream_of"]
