"""Samples of a source: reading by index, by id and by field, and what to say when one cannot be read."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmflow.plugin.kinds import Reader, Source
from mmflow.spec.target import Target

if TYPE_CHECKING:
    from mmflow.data.batches import ColumnBatch


@dataclass(frozen=True)
class ColumnRequest:
    """One column that a batch must hold.

    `target` leads to a field, a view (or what it adds) or a sampler's field; `preprocess` (picklable) maps each raw
    value, group members one by one. `key` is the column's name in the batch.
    """

    key: str
    target: Target
    preprocess: Callable[[Any], Any] | None = None


class SampleError(RuntimeError):
    """A sample that cannot be read or transformed; the message names the sample, the source and the file."""


class SkippedSample(SampleError):
    """A sample that its source's policy leaves out (`bad: skip`, `bad: quarantine`), raised by readers.

    `quarantine` is the file that lists such samples, where the policy keeps one.
    """

    def __init__(self, reason: str, quarantine: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.quarantine = reason, quarantine

    def __reduce__(self) -> Any:
        return type(self), (self.reason, self.quarantine)


def read_sample(reader: Reader, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
    """Sample `index`, of which only `fields` are wanted; a reader with `read(index, fields)` reads no others."""
    read = getattr(reader, "read", None)
    return reader[index] if read is None else read(index, fields)


def failure(error: BaseException, *, source: Source, id: str, doing: str = "") -> SampleError:
    """One message for what went wrong with one sample: its id, its source, what was done, and where it happened."""
    if isinstance(error, SkippedSample):
        return error
    text = str(error) if isinstance(error, SampleError) else f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    at = (
        f" (raised at {frames[-1].filename}:{frames[-1].lineno})"
        if frames and not isinstance(error, SampleError)
        else ""
    )
    return SampleError(f"sample {id!r} of {describe(source)}{', ' + doing if doing else ''}: {text}{at}")


def describe(source: Source) -> str:
    """A source in a message: its name in the registry and, where it has one, its place."""
    place = next((str(v) for f in ("url", "path", "root") if (v := getattr(source, f, None))), "")
    return f"source {source.use!r}" + (f" ({place})" if place else "")


def safe_id(reader: Reader, index: int) -> str:
    """The id of a sample for a message, even where it cannot be read."""
    try:
        return reader.id(index)
    except Exception:
        return f"#{index}"


def read_field(source: Source, field: str, limit: int | None = None) -> Iterator[Any]:
    """Raw values of one field in the source's order (absent ones are left out); raises `SampleError`."""
    reader = source.open()
    for index in range(len(reader) if limit is None else min(limit, len(reader))):
        try:
            value = read_sample(reader, index, (field,))[field]
        except SkippedSample:
            continue
        except Exception as error:
            raise failure(error, source=source, id=safe_id(reader, index), doing=f"field {field!r}") from error
        if value is not None:
            yield value


def read_labels(reader: Reader, source: Source, field: str) -> list[Any]:
    """The whole column `field`, one value a sample, None where it is absent or the sample is left out."""
    labels: list[Any] = []
    for index in range(len(reader)):
        try:
            labels.append(read_sample(reader, index, (field,))[field])
        except SkippedSample:
            labels.append(None)
        except Exception as error:
            raise failure(error, source=source, id=safe_id(reader, index), doing=f"field {field!r}") from error
    return labels


def sample_fields(
    source: Source, ids: Sequence[str], fields: Collection[str] | None = None
) -> dict[str, Mapping[str, Any]]:
    """Raw samples by id (all fields, or `fields`), in the order of `ids`; ids that are not there raise `KeyError`."""
    reader = source.open()
    find = getattr(reader, "index", None)
    if find is None:
        wanted = set(ids)
        places: dict[str, int] = {}
        for index in range(len(reader)):
            if len(places) == len(wanted):
                break
            if (id := reader.id(index)) in wanted:
                places[id] = index
        missing = [id for id in ids if id not in places]
        if missing:
            raise KeyError(f"{describe(source)} has no sample {missing[0]!r}")
        find = places.__getitem__
    return {id: read_sample(reader, find(id), fields) for id in ids}


def static_columns(source: Source, requests: Sequence[ColumnRequest]) -> dict[str, ColumnBatch]:
    """Columns without the sample axis (class names, prompts, adjacency): rows are those of their own axis."""
    from mmflow.data.batches import collate, map_members

    static = source.open().static()
    fields = source.fields()
    columns: dict[str, ColumnBatch] = {}
    for request in requests:
        name = request.target.name
        if name not in static:
            raise KeyError(f"{describe(source)} has no static field {name!r}; it has {', '.join(static) or 'none'}")
        type_ = fields[name]
        rows = [map_members(row, len(type_.axes) - 1, request.preprocess) for row in static[name]]
        columns[request.key] = collate(rows, type_)
    return columns
