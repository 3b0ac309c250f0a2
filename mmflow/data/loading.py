"""Loading: the same batches from a cursor, however many worker processes read them.

The order is a function of (seed, epoch) and a view of (seed, epoch, id, view, copy, transform), so a cursor
(epoch, batches done) is all the state there is. Sources with random access are read in a sampler's order, others
partition by partition (`mmflow.data.shards`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from mmflow.data.batches import Batch
from mmflow.data.fetching import BatchFetcher, BatchTask, PartitionEnd, PartitionTask, RankShare
from mmflow.data.samples import ColumnRequest, count_of, random_access_needed, read_column
from mmflow.data.shards import RoundRobin, ShardAssignment
from mmflow.data.workers import Workers
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Draw, Reader, Sampler, ShardReader, Source, View
from mmflow.plugin.references import Ref, Sampled, reference_fields
from mmflow.plugin.samples import SampleError, describe
from mmflow.plugin.targets import Target
from mmflow.plugin.values import RawValue


class Loader:
    """Training batches of a source: the same for any number of workers, from any cursor.

    A source with static fields alone (one big graph) has one batch an epoch, without rows: a pass over the whole.

    `requests` name the columns. `sampled` are the fields of the source (of one with a group axis, a member) that the
    sampler's references lead to, by the names of its own fields; a reference that is not there names a field itself.
    With `ranks`, every loader yields its rank's rows of the same global batches: these are cut into micro-batches of
    `micro_batch_size`, which go to the ranks in turn.
    `waited` is the time in seconds that the caller waited for batches, `skipped` the samples left out (id: reason).
    """

    def __init__(
        self,
        source: Source,
        views: Mapping[str, View],
        requests: Sequence[ColumnRequest],
        *,
        sampler: Sampler,
        batch_size: int,
        seed: int,
        workers: int = 0,
        sampled: Mapping[str, Target] | None = None,
        pin: bool = False,
        rank: int = 0,
        ranks: int = 1,
        micro_batch_size: int | None = None,
    ) -> None:
        self.source, self.sampler, self.batch_size, self.seed = source, sampler, batch_size, seed
        self.ranks = ranks
        self.reader = source.open()
        self.length = count_of(source)
        self._static = not self.length and self.length is not None and bool(self.reader.static())
        if self.length == 0 and not self._static:
            raise SampleError(f"{describe(source)} has no samples")
        self._assignment = _assignment(source, self.reader, sampler, batch_size)
        self._columns = {} if self._assignment else self._read_columns(sampled or {})
        self._counts: dict[int, int] = {}
        share = RankShare(rank, ranks, micro_batch_size)
        fetcher = BatchFetcher(source, self.reader, views, requests, seed, share, self._assignment)
        self._workers = Workers(
            fetcher, workers if self._assignment is None else min(workers, self._assignment.partitions), pin
        )

    def _read_columns(self, sampled: Mapping[str, Target]) -> dict[str, Sequence[RawValue]]:
        """The columns that the sampler reads, under the names of its fields."""
        found: dict[str, Sequence[RawValue]] = {}
        known = self.source.fields()
        for name in reference_fields(type(self.sampler)):
            reference = getattr(self.sampler, name)
            if reference is None:
                continue
            given = sampled.get(name)
            field, member = (given.name, given.index) if given is not None else _field_of(reference, known)
            values = read_column(self.reader, self.source, field)
            found[name] = values if member is None else [_member(value, member) for value in values]
            joins = field not in self.source.spoken_of().fields()
            if joins and all(value is None for value in values):
                raise SampleError(f"{reference}, which the sampler reads, knows no sample of {describe(self.source)}")
        return found

    # --- sizes -----------------------------------------------------------------------------

    def count(self, epoch: int) -> int | None:
        """The number of batches of an epoch; for a source that is read in order an estimate, or None where unknown."""
        if self._static:
            return 1
        if self._assignment is not None:
            return None if self.length is None else max(1, self.length // self.batch_size)
        if epoch not in self._counts:
            self._counts[epoch] = self.sampler.count(self._draw(epoch))
        return self._counts[epoch]

    def steps(self, epochs: float, first: int = 0) -> int:
        """Batches of `epochs` from the epoch `first` on, the last of which may be a part. Raises `ComponentError` where
        that is unknown."""
        whole, part = int(epochs), epochs - int(epochs)
        counts = [self.count(first + epoch) for epoch in range(whole + (part > 0))]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            raise ComponentError(
                f"how many batches an epoch of {describe(self.source)} has is not known before it is read",
                hint="give `steps:`, or the number of samples: `stream: {samples: N}`",
            )
        return max(1, sum(known[:whole]) + (round(part * known[-1]) if part else 0))

    @property
    def waited(self) -> float:
        return self._workers.waited

    @property
    def skipped(self) -> Mapping[str, str]:
        return self._workers.skipped

    # --- batches ---------------------------------------------------------------------------------------

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from the one at `start`: exactly those of a pass that was never interrupted.

        `start` is the `index` of a batch.
        """
        if self._static:
            return iter([] if start else [Batch({}, [], 0, epoch)])
        if self._assignment is not None:
            return self._with_rows(_partition_batches(self._workers, self._assignment, epoch, start), start)
        return self._with_rows(self._workers.batches(self._tasks(epoch, start)), start)

    def _with_rows(self, batches: Iterator[Batch], start: int) -> Iterator[Batch]:
        """Leave out batches all of whose samples are left out by policy; with several ranks, no rank can know that."""
        given, empty = 0, False
        for batch in batches:
            if batch.size or not batch.skipped or self.ranks > 1:
                given += 1
                yield batch
            else:
                empty = True
        if empty and not given and not start:
            raise SampleError(f"{describe(self.source)}: every sample of every batch is left out, as its policy says")

    def _tasks(self, epoch: int, start: int) -> Iterator[BatchTask]:
        for index, drawn in enumerate(self.sampler.batches(self._draw(epoch))):
            if index >= start:
                samples, columns = drawn if isinstance(drawn, tuple) else (drawn, {})
                yield BatchTask(epoch, index, samples, columns)

    def _draw(self, epoch: int) -> Draw:
        return Draw(self.length or 0, self.batch_size, self.seed, epoch, self._columns)

    def draw(self) -> Sequence[int]:
        """The indices of the first batch's samples, none of which is read. Raises what the sampler raises."""
        first = None if self._static else next(self._tasks(0, 0), None)
        return [] if first is None else first.samples

    def sizes(self) -> Iterator[int]:
        """Rows of each batch of the first epoch, as they are drawn; none is read."""
        return (len(task.samples) for task in (() if self._static else self._tasks(0, 0)))

    def worker_pids(self) -> list[int]:
        """The ids of the worker processes that there are now."""
        return [process.pid for process in self._workers.processes() if process.pid is not None]

    def close(self) -> None:
        """End the worker processes; iterating again starts new ones."""
        self._workers.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def scan(
    source: Source,
    views: Mapping[str, View],
    requests: Sequence[ColumnRequest],
    *,
    batch_size: int,
    workers: int = 0,
    seed: int = 0,
) -> Iterator[Batch]:
    """Every sample once, in the source's order, with views in their deterministic form."""
    reader = source.open()
    streaming = source.streaming()
    assignment = None
    if streaming is not None:
        assignment = ShardAssignment(streaming, len(reader.shards()), batch_size, shuffle=False, drop_last=False)
        workers = min(workers, 1)
    pool = Workers(BatchFetcher(source, reader, views, requests, seed, assignment=assignment), workers, pin=False)
    try:
        if assignment is not None:
            batches = _partition_batches(pool, assignment, None, 0)
        else:
            starts = range(0, len(reader), batch_size)
            batches = pool.batches(
                BatchTask(None, i, range(s, min(s + batch_size, len(reader)))) for i, s in enumerate(starts)
            )
        yield from batches
    finally:
        pool.close()


def sample_of(
    source: Source, views: Mapping[str, View], requests: Sequence[ColumnRequest], indices: Sequence[int]
) -> Batch:
    """The samples of these indices as one batch, with views in their deterministic form."""
    fetcher = BatchFetcher(source, source.open(), views, requests, seed=0)
    batch = fetcher[BatchTask(None, 0, indices)]
    assert isinstance(batch, Batch)
    return batch


def _assignment(
    source: Source, reader: Reader | ShardReader, sampler: Sampler, batch_size: int
) -> ShardAssignment | None:
    """How a source without random access is read under a sampler; None for one with random access."""
    streaming = source.streaming()
    if streaming is None:
        return None
    if refused := random_access_needed(sampler, source):
        raise ComponentError(refused[0], hint=refused[1])
    order = sampler.streamed()
    assert order is not None
    assert isinstance(reader, ShardReader)
    return ShardAssignment(streaming, len(reader.shards()), batch_size, order.shuffle, order.drop_last)


def _partition_batches(workers: Workers, assignment: ShardAssignment, epoch: int | None, start: int) -> Iterator[Batch]:
    """Batches of the partitions in turn, from the one that `start` come before."""
    rounds = RoundRobin(assignment.partitions)
    turn, partition = rounds.place(start)
    while start and not rounds.over:
        # The partitions that have ended before `start` show when they are brought there.
        known = len(rounds.ended)
        probes = [
            PartitionTask(epoch, n, turn, probe=True) if n not in rounds.ended else None
            for n in range(assignment.partitions)
        ]
        for result in workers.run(probes):
            if isinstance(result, PartitionEnd):
                rounds.ended[result.partition] = result.batches
        turn, partition = rounds.place(start)
        if len(rounds.ended) == known:
            break
    index = start
    for result in workers.run(_partition_tasks(workers, rounds, epoch, turn, partition)):
        if isinstance(result, PartitionEnd):
            rounds.ended[result.partition] = result.batches
        elif result is not None:
            result.index = index
            index += 1
            yield result


def _partition_tasks(
    workers: Workers, rounds: RoundRobin, epoch: int | None, turn: int, first: int
) -> Iterator[PartitionTask | None]:
    """A task for each partition that may have a batch left, round by round; those of one go to one worker always."""
    every = max(1, workers.count)
    while not rounds.over:
        for number in range(-(-rounds.partitions // every) * every):
            here = first <= number < rounds.partitions and rounds.ended.get(number, turn + 1) > turn
            yield PartitionTask(epoch, number, turn) if here else None
        turn, first = turn + 1, 0


__all__ = ["Loader", "sample_of", "scan"]


def _member(value: RawValue, member: int) -> RawValue:
    return None if value is None or member >= len(value) else value[member]


def _field_of(reference: Ref[Sampled], known: Collection[str]) -> tuple[str, int | None]:
    """The field that a sampler's reference names, with or without its section, and the member of its first group."""
    words = reference.path
    words = words[words[0] == "fields" :]
    if ".".join(words) not in known and words[-1].isdecimal():
        return ".".join(words[:-1]), int(words[-1])
    return ".".join(words), None
