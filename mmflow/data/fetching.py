"""Fetching batches: the samples of a task are read, viewed, preprocessed and joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from mmflow.data.batches import Batch, ColumnBatch, collate, map_members
from mmflow.data.samples import ColumnRequest, failure, safe_id, samples_of
from mmflow.data.shards import PartitionBatches, ShardAssignment
from mmflow.data.views import Drawing, Row, RowError, ViewedRows
from mmflow.plugin.kinds import Reader, ShardReader, Source, View
from mmflow.plugin.modality import first_member, modality
from mmflow.plugin.samples import SampleError, SkippedSample, describe, read_sample
from mmflow.plugin.values import RawValue, Sample
from mmflow.spec.references.views import ViewTypes, fields_of, needs_batch

Drawn = Sequence[tuple[str, Callable[[], Sample]]]
"""The samples of a batch: their ids, and how each is read."""


@dataclass(frozen=True)
class BatchTask:
    """One batch of samples by index: `epoch` None asks for the deterministic form of views; `columns` come from the
    sampler."""

    epoch: int | None
    index: int
    samples: Sequence[int]
    columns: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class PartitionTask:
    """Batch number `turn` of a partition of the shards; `probe` only asks whether there is one."""

    epoch: int | None
    partition: int
    turn: int
    probe: bool = False


@dataclass(frozen=True)
class PartitionEnd:
    """The result of a task of a partition that has no batch left: it had so many."""

    partition: int
    batches: int


@dataclass(frozen=True)
class Failed:
    """The result of a task that failed in a worker."""

    message: str


@dataclass(frozen=True)
class RankShare:
    """The rows of a global batch that a rank reads: micro-batches go to the ranks in turn."""

    rank: int = 0
    ranks: int = 1
    micro_batch_size: int | None = None
    """None: one micro-batch a rank."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise ValueError(f"rank {self.rank} of {self.ranks}")

    def rows(self, size: int) -> list[int]:
        """Places of the rank's rows in a batch of `size`."""
        micro = self.micro_batch_size or max(1, -(-size // self.ranks))
        starts = range(self.rank * micro, size, self.ranks * micro)
        return [place for start in starts for place in range(start, min(start + micro, size))]


Task = BatchTask | PartitionTask
Result = Batch | PartitionEnd | Failed | None
"""The result of a task; None for one that fills a gap between the tasks of a worker."""


class BatchFetcher(Dataset["Result"]):
    """Fetches the batch of a task; picklable, and all that a worker process holds.

    The `partitions` of a source that is read from front to back stay open between tasks.
    """

    def __init__(
        self,
        source: Source,
        reader: Reader | ShardReader,
        views: Mapping[str, View],
        requests: Sequence[ColumnRequest],
        seed: int,
        share: RankShare | None = None,
        assignment: ShardAssignment | None = None,
    ) -> None:
        self.source, self.reader = source, reader
        self.share = share or RankShare()
        self.requests = [request for request in requests if request.target.section != "sampler"]
        self.sampled = [request for request in requests if request.target.section == "sampler"]
        declared = source.fields()
        types = ViewTypes(views, declared)
        self.drawing = Drawing(types.fitted(r.target for r in self.requests), seed)
        self.types = {r.key: types.column(r.target) for r in self.requests}
        self.modalities = {key: modality(type_.modality) for key, type_ in self.types.items()}
        # The columns that a batch takes as its samples have them.
        self.as_read = {
            r.key
            for r in self.requests
            if r.target.section == "fields" and r.target.index is None and r.preprocess is None
            if len(self.types[r.key].axes) == 1
        }
        wanted = {field for r in self.requests for field in fields_of(r.target, views)}
        self.fields = tuple(sorted(wanted))
        known = {name: declared[name] for name in self.fields if name in declared}
        self._unchecked = {name: (modality(type_.modality), type_) for name, type_ in known.items()}
        self.together = any(needs_batch(r.target, views) for r in self.requests)
        self.partitions: PartitionBatches | None = None
        if assignment is not None:
            assert isinstance(reader, ShardReader)
            self.partitions = PartitionBatches(reader, self.fields, assignment, seed)
        self._templates: dict[str, RawValue] = {}
        self.reading: Callable[[str], None] = _unnoticed
        """Told of what is read next; in a worker process another one looks there when it has died."""

    def __getitem__(self, task: Task | None) -> Result:
        try:
            if isinstance(task, PartitionTask):
                return self._of_partition(task)
            return None if task is None else self._of_indices(task)
        except SampleError as error:
            if get_worker_info() is None:
                raise
            return Failed(str(error))
        finally:
            self.reading("")

    def _of_indices(self, task: BatchTask) -> Batch:
        reader = self.reader
        assert not isinstance(reader, ShardReader)
        drawn = [(safe_id(reader, i), partial(read_sample, reader, i, self.fields)) for i in task.samples]
        return self.make(drawn, task.epoch, task.index, task.columns)

    def _of_partition(self, task: PartitionTask) -> Batch | PartitionEnd | None:
        partitions, reader = self.partitions, self.reader
        assert partitions is not None
        assert isinstance(reader, ShardReader)
        self.reading(f"the shards of partition {task.partition}")
        try:
            found = partitions.batch(task.epoch, task.partition, task.turn, take=not task.probe)
        except Exception as error:
            raise failure(error, source=self.source, doing=f"reading shards of partition {task.partition}") from error
        if isinstance(found, int):
            return PartitionEnd(task.partition, found)
        if task.probe:
            return None
        drawn = [(id, partial(reader.decode, id, raw, self.fields)) for id, raw in found]
        return self.make(drawn, task.epoch, task.turn * partitions.assignment.partitions + task.partition)

    def make(
        self, drawn: Drawn, epoch: int | None, index: int, sampled: Mapping[str, Tensor] | None = None
    ) -> Batch:  # fmt: skip
        """This rank's rows of the batch of `drawn` samples; transforms of a whole batch draw at `index`."""
        mine = self.share.rows(len(drawn))
        rows: list[Row] = []
        values: list[dict[str, RawValue]] = []
        ids: list[str] = []
        places: list[int] = []
        skipped: dict[str, tuple[str, str | None]] = {}
        turns = _turns([id for id, _ in drawn])
        for place in range(len(drawn)) if self.together else mine:
            id, get = drawn[place]
            try:
                row = self.read(id, get, turns[place])
            except SkippedSample as skip:
                skipped[id] = (skip.reason, skip.quarantine)
                continue
            places.append(place)
            ids.append(id)
            if self.together:
                rows.append(row)
            else:
                # Each row is finished before the next is read, so that raw samples do not add up.
                values += self.view([row], epoch)
        if self.together:
            self.reading(f"the samples {ids[0]!r} to {ids[-1]!r} of a batch" if ids else "")
            # A transform that mixes rows needs those of the other ranks too.
            kept = set(mine)
            values = [v for v, place in zip(self.view(rows, epoch, index), places, strict=True) if place in kept]
            ids = [id for id, place in zip(ids, places, strict=True) if place in kept]
            places = [place for place in places if place in kept]
        columns = {r.key: self._joined(r, [row[r.key] for row in values], ids) for r in self.requests}
        for request in self.sampled:
            columns[request.key] = ColumnBatch(torch.as_tensor((sampled or {})[request.target.name])[places])
        return Batch(columns, ids, len(ids), epoch or 0, index, skipped, places)

    def read(self, id: str, get: Callable[[], Sample], turn: int = 0) -> Row:
        """A sample with the fields that the requests need."""
        self.reading(f"sample {id!r}")
        try:
            sample = {"id": id, **get()}
            if self._unchecked:
                self._check(sample)
        except Exception as error:
            raise failure(error, source=self.source, id=id) from error
        return Row(sample, id, turn)

    def _check(self, sample: Sample) -> None:
        """Hold the first value of each field against the form of its modality."""
        for name, (form, declared) in list(self._unchecked.items()):
            value = first_member(sample.get(name), declared)
            if value is None:
                continue
            del self._unchecked[name]
            try:
                form.check(value, declared)
            except ValueError as error:
                raise SampleError(f"the field {name!r} is declared as {declared.modality}, but holds {error}") from None

    def view(
        self, rows: Sequence[Row], epoch: int | None, batch: int = 0, only: ColumnRequest | None = None
    ) -> list[dict[str, RawValue]]:
        """The values of each row by key, preprocessed and ready to be joined."""
        viewed: ViewedRows | None = None
        found: list[dict[str, RawValue]] = [{} for _ in rows]
        for request in self.requests if only is None else [only]:
            name = request.target.name
            if request.key in self.as_read and all(name in row.sample for row in rows):
                for values, row in zip(found, rows, strict=True):
                    values[request.key] = row.sample[name]
                continue
            viewed = viewed or ViewedRows(rows, self.drawing, epoch=epoch, batch=batch)
            depth = len(self.types[request.key].axes) - 1
            at: int | None = None
            try:
                for at, value in enumerate(viewed.get(request.target)):
                    found[at][request.key] = map_members(value, depth, request.preprocess)
            except Exception as error:
                cause = error
                if isinstance(error, RowError):
                    cause, at = error.__cause__ or error, error.row
                section = request.target.section.removesuffix("s")
                doing = f"{section} {request.target.name!r} for column {request.key!r}"
                if at is None and len(rows) > 1:
                    doing += f", a batch of {len(rows)} rows that begins with it"
                raise failure(cause, source=self.source, id=rows[at or 0].id, doing=doing) from error
        return found

    def _joined(self, request: ColumnRequest, values: list[RawValue], ids: list[str]) -> ColumnBatch:
        type_ = self.types[request.key]
        nothing = bool(values) and all(map(_absent, values))
        template = self._template(request) if nothing else None
        if nothing and template is None and request.preprocess is not None:
            raise SampleError(f"{describe(self.source)}: no sample of the data has {request.target.name!r}")
        try:
            return collate(values, type_, template, by=self.modalities[request.key])
        except ValueError as error:
            if nothing and template is None:
                raise SampleError(
                    f"{describe(self.source)}: no sample of the data has {request.target.name!r} ({error})"
                ) from error
            raise SampleError(
                f"{describe(self.source)}, column {request.key!r} of the batch with samples "
                f"{ids[0]!r} to {ids[-1]!r}: {error}"
            ) from error

    def _template(self, request: ColumnRequest) -> RawValue:
        """A member of a column as it would be, from the first sample that has it (deterministic form)."""
        if request.key not in self._templates:
            self._templates[request.key] = None
            for id, get in samples_of(self.reader, self.fields):
                try:
                    member = self.view([self.read(id, get)], None, only=request)[0][request.key]
                except SampleError:
                    continue
                member = first_member(member, self.types[request.key])
                if member is not None:
                    self._templates[request.key] = member
                    break
        return self._templates[request.key]


def _absent(value: RawValue) -> bool:
    """Whether a value is absent, or every member of a group is."""
    return value is None or (isinstance(value, list) and bool(value) and all(map(_absent, value)))


def _unnoticed(what: str) -> None:
    return


def _turns(ids: Sequence[str]) -> list[int]:
    """For each sample of a batch, how often the batch has it before."""
    if len(set(ids)) == len(ids):
        return [0] * len(ids)
    counts: dict[str, int] = {}
    found = []
    for id in ids:
        found.append(counts.get(id, 0))
        counts[id] = found[-1] + 1
    return found


__all__ = ["BatchFetcher", "BatchTask", "Failed", "PartitionEnd", "PartitionTask", "RankShare", "Result", "Task"]
