"""Shard assignment: the order in which a source without random access is read, the same for any number of workers.

An epoch's shards are permuted by (seed, epoch) and assigned to a fixed number of partitions. A partition shuffles the
samples of its shards in a buffer and cuts them into batches; batches come from the partitions in turn. So a batch
depends on (seed, epoch) and its place alone. A worker keeps its partitions open; another one that opens a partition
later skips the samples that were read, undecoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmflow.plugin.addresses import numpy_generator
from mmflow.plugin.kinds import ShardReader, Streaming
from mmflow.plugin.values import RawValue

if TYPE_CHECKING:
    import numpy as np

Raw = tuple[str, RawValue]
"""A sample's id, and the data from which its reader decodes it."""


@dataclass(frozen=True)
class ShardAssignment:
    """How shards are assigned to partitions, and partitions cut into batches."""

    streaming: Streaming
    shards: int
    batch_size: int
    shuffle: bool = True
    drop_last: bool = True

    @property
    def partitions(self) -> int:
        """Their number; without shuffling there is one, which reads all shards in order."""
        return min(self.streaming.partitions, self.shards) if self.shuffle else 1

    def shards_of(self, partition: int, *, seed: int, epoch: int | None) -> Sequence[int]:
        """The shards of a partition, in the order in which it opens them."""
        if not self.shuffle:
            return range(self.shards)
        return (
            numpy_generator(seed, "shards", epoch or 0).permutation(self.shards)[partition :: self.partitions].tolist()
        )


def shuffled(
    reader: ShardReader,
    shards: Sequence[int],
    fields: Collection[str],
    *,
    open: int,
    buffer: int,
    generator: np.random.Generator | None,
) -> Iterator[Raw]:
    """The samples of `shards`, drawn from a buffer of `buffer` samples, with `open` shards read side by side.

    Without a generator they come in their order, shard after shard.
    """
    arriving = _arriving(reader, shards, fields, open if generator is not None else 1)
    if generator is None:
        yield from arriving
        return
    held: list[Raw] = []
    for sample in arriving:
        if len(held) < buffer:
            held.append(sample)
            continue
        place = int(generator.integers(len(held)))
        drawn, held[place] = held[place], sample
        yield drawn
    for place in generator.permutation(len(held)).tolist():
        yield held[place]


def _arriving(reader: ShardReader, shards: Sequence[int], fields: Collection[str], open: int) -> Iterator[Raw]:
    waiting = deque(shards)
    reading: deque[Iterator[Raw]] = deque()
    while waiting or reading:
        while waiting and len(reading) < open:
            reading.append(iter(reader.shard(waiting.popleft(), fields)))
        first = reading.popleft()
        sample = next(first, None)
        if sample is not None:
            reading.append(first)
            yield sample


class _Partition:
    """An open partition: it gives its batches one after the other, and skips forward."""

    def __init__(self, samples: Iterator[Raw], batch_size: int, drop_last: bool) -> None:
        self.samples, self.batch_size, self.drop_last = samples, batch_size, drop_last
        self.turn = 0
        """Batches given or skipped."""
        self._next: list[Raw] = []

    def stand_at(self, turn: int) -> bool:
        """Go on to batch `turn`, which must not lie behind; whether there is one."""
        while self._fill() and self.turn < turn:
            self.take()
        return self._fill() and self.turn == turn

    def take(self) -> list[Raw]:
        batch, self._next = self._next, []
        self.turn += 1
        return batch

    def _fill(self) -> bool:
        while len(self._next) < self.batch_size:
            sample = next(self.samples, None)
            if sample is None:
                break
            self._next.append(sample)
        return len(self._next) == self.batch_size or (bool(self._next) and not self.drop_last)


class PartitionBatches:
    """Batches of partitions by number; a partition stays open while its batches are asked for in order.

    Picklable; a copy has no open partition.
    """

    def __init__(self, reader: ShardReader, fields: Collection[str], assignment: ShardAssignment, seed: int) -> None:
        self.reader, self.fields, self.assignment, self.seed = reader, fields, assignment, seed
        self._open: dict[int, _Partition] = {}
        self._epoch: int | None = None

    def __getstate__(self) -> Mapping[str, object]:
        return {**self.__dict__, "_open": {}}

    def batch(self, epoch: int | None, partition: int, turn: int, *, take: bool = True) -> list[Raw] | int:
        """The raw samples of batch `turn` of a partition ([] where `take` is false); past its end, the number of its
        batches."""
        if epoch != self._epoch:
            self._open, self._epoch = {}, epoch
        here = self._open.get(partition)
        if here is None or here.turn > turn:
            here = self._open[partition] = self._opened(epoch, partition)
        try:
            there = here.stand_at(turn)
        except Exception:
            # The rest of its iterators would look like an end.
            del self._open[partition]
            raise
        if not there:
            return here.turn
        return here.take() if take else []

    def _opened(self, epoch: int | None, partition: int) -> _Partition:
        assignment, streaming = self.assignment, self.assignment.streaming
        # The word is a part of the address, and never changes: every draw would.
        generator = numpy_generator(self.seed, "lane", epoch or 0, partition) if assignment.shuffle else None
        shards = assignment.shards_of(partition, seed=self.seed, epoch=epoch)
        samples = shuffled(
            self.reader, shards, self.fields, open=streaming.open, buffer=streaming.buffer, generator=generator
        )
        return _Partition(samples, assignment.batch_size, assignment.drop_last)


class RoundRobin:
    """Where a pass over partitions stands: batches come from them in turn, and one that has ended is left out.

    `ended` holds the number of batches of each partition that is known to have ended.
    """

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.ended: dict[int, int] = {}

    @property
    def over(self) -> bool:
        return len(self.ended) == self.partitions

    def place(self, batches: int) -> tuple[int, int]:
        """The round and partition of the batch that so many come before, by the ends that are known."""
        counts = sorted(self.ended.values())
        turn, before, alive = 0, 0, self.partitions
        for count in counts:
            if before + (count - turn) * alive > batches:
                break
            before += (count - turn) * alive
            turn, alive = count, alive - 1
        if not alive:
            return turn, 0
        more, rest = divmod(batches - before, alive)
        turn += more
        left = [number for number in range(self.partitions) if self.ended.get(number, turn + 1) > turn]
        return turn, left[rest]
