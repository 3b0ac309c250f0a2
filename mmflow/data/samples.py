"""Samples of a source: reading by index, by id and by field, and the message for one that cannot be read."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Reader, Sampler, ShardReader, Source
from mmflow.plugin.samples import SampleError, SkippedSample, describe, read_sample
from mmflow.plugin.targets import Target
from mmflow.plugin.values import RawValue, Sample, TensorType

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.data.batches import ColumnBatch


@dataclass(frozen=True)
class ColumnRequest:
    """One column that a batch must hold.

    `target` leads to a field, a view (or a field that it adds) or a sampler's field; `preprocess` (picklable) maps each
    raw value, group members one by one. `key` is the column's name in the batch.
    """

    key: str
    target: Target
    preprocess: Callable[[RawValue], RawValue] | None = None


def failure(error: BaseException, *, source: Source, id: str = "", doing: str = "") -> SampleError:
    """One message for a failure: the sample's id, its source, the step at which it failed, and the line of code."""
    if isinstance(error, SkippedSample):
        return error
    text = str(error) if isinstance(error, SampleError) else f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    at = (
        f" (raised at {frames[-1].filename}:{frames[-1].lineno})"
        if frames and not isinstance(error, SampleError)
        else ""
    )
    whose = f"sample {id!r} of " if id else ""
    return SampleError(f"{whose}{describe(source)}{', ' + doing if doing else ''}: {text}{at}")


def random_access_needed(sampler: Sampler, source: Source) -> tuple[str, str] | None:
    """Why a sampler cannot order the samples of a source that is read front to back, and the fix."""
    if source.streaming() is None or sampler.streamed() is not None:
        return None
    message = f"the sampler {sampler.use} needs random access to samples, which {describe(source)} has not"
    return message, "use `shuffle` or `sequential`, or read the source without `stream`"


def safe_id(reader: Reader, index: int) -> str:
    """The id of a sample for a message, even where it cannot be read."""
    try:
        return reader.id(index)
    except Exception:
        return f"#{index}"


def samples_of(reader: Reader | ShardReader, fields: Collection[str]) -> Iterator[tuple[str, Callable[[], Sample]]]:
    """Every sample in order, as its id and a function that reads `fields` of it."""
    if isinstance(reader, ShardReader):
        for number in range(len(reader.shards())):
            for id, raw in reader.shard(number, fields):
                yield id, partial(reader.decode, id, raw, fields)
        return
    for index in range(len(reader)):
        yield safe_id(reader, index), partial(read_sample, reader, index, fields)


def count_of(source: Source) -> int | None:
    """The number of samples of a source; None where only a whole pass would tell."""
    streaming = source.streaming()
    return len(source.open()) if streaming is None else streaming.samples


def read_field(source: Source, field: str, limit: int | None = None) -> Iterator[RawValue]:
    """Raw values of one field in the source's order (absent ones are left out); raises `SampleError`."""
    for id, read in islice(samples_of(source.open(), (field,)), limit):
        try:
            value = read()[field]
        except SkippedSample:
            continue
        except Exception as error:
            raise failure(error, source=source, id=id, doing=f"field {field!r}") from error
        if value is not None:
            yield value


def read_column(reader: Reader, source: Source, field: str) -> list[RawValue]:
    """The whole column `field`, one value a sample, None where it is absent or the sample is left out."""
    values: list[RawValue] = []
    for id, read in samples_of(reader, (field,)):
        try:
            values.append(read()[field])
        except SkippedSample:
            values.append(None)
        except KeyError:
            raise SampleError(f"{describe(source)} has no field {field!r}, which the sampler reads") from None
        except Exception as error:
            raise failure(error, source=source, id=id, doing=f"field {field!r}") from error
    return values


def sample_fields(source: Source, ids: Sequence[str], fields: Collection[str] | None = None) -> dict[str, Sample]:
    """Raw samples by id (all fields, or `fields`), in the order of `ids`; ids that are not there raise `KeyError`."""
    reader = source.open()
    find = getattr(reader, "index", None)
    if find is not None:
        return {id: read_sample(reader, find(id), fields) for id in ids}
    wanted, found = set(ids), {}
    for id, read in samples_of(reader, tuple(source.fields()) if fields is None else fields):
        if id in wanted and id not in found:
            found[id] = read()
            if len(found) == len(wanted):
                break
    missing = [id for id in ids if id not in found]
    if missing:
        raise KeyError(f"{describe(source)} has no sample {missing[0]!r}")
    return {id: found[id] for id in ids}


def static_ids(fields: Mapping[str, TensorType], static: Mapping[str, RawValue], axis: str) -> list[str]:
    """The ids of the rows of an axis of static fields: those of a static field of ids (`node.id`), else their numbers.

    Raises `KeyError` where no static field has the axis.
    """
    alike = [name for name, declared in fields.items() if declared.axes[:1] == (axis,) and name in static]
    if not alike:
        raise KeyError(f"no static field has the axis {axis!r}")
    named = next((name for name in alike if fields[name].modality == "id"), None)
    return [str(n) for n in range(len(static[alike[0]]))] if named is None else list(map(str, static[named]))


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


def whole_column(source: Source | None, field: Target) -> Tensor:
    """All values of a field of numbers that joins the data: its own rows, or those that samples have.

    Raises `ComponentError` where the field is not there yet, or holds no numbers.
    """
    from torch import Tensor

    from mmflow.data.batches import collate

    if source is None or field.name not in source.fields():
        raise ComponentError(f"`{field}` is not there yet, and its values are needed")
    declared = source.fields()[field.name]
    if declared.static:
        column = static_columns(source, [ColumnRequest("value", field)])["value"]
    else:
        column = collate([v for v in read_column(source.open(), source, field.name) if v is not None], declared)
    if not isinstance(column.values, Tensor):
        raise ComponentError(f"`{field}` holds no numbers, which are needed")
    return column.values
