"""Lanes: the order in which a source without random access is read, the same for any number of workers.

An epoch's shards are permuted by (seed, epoch) and dealt to a fixed number of lanes. A lane mixes the samples of its
shards in a buffer and cuts them into batches; batches come from the lanes in turn. So a batch depends on (seed, epoch)
and its place alone; who reads a lane keeps it open, and whoever opens it later skips what was read, undecoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmflow.plugin.addresses import numpy_generator
from mmflow.plugin.kinds import ShardReader, Streaming

Raw = tuple[str, Any]
"""A sample's id and what its reader needs to decode it."""


@dataclass(frozen=True)
class Dealt:
    """How shards are dealt to lanes and lanes are cut into batches."""

    streaming: Streaming
    shards: int
    batch_size: int
    shuffle: bool = True
    drop_last: bool = True

    @property
    def lanes(self) -> int:
        """Without shuffling there is one, which reads all shards in order."""
        return min(self.streaming.lanes, self.shards) if self.shuffle else 1

    def of(self, lane: int, *, seed: int, epoch: int | None) -> Sequence[int]:
        """The shards of a lane, in the order in which it opens them."""
        if not self.shuffle:
            return range(self.shards)
        return numpy_generator(seed, "shards", epoch or 0).permutation(self.shards)[lane :: self.lanes].tolist()


def mixed(
    reader: ShardReader, shards: Sequence[int], fields: Collection[str], *, open: int, buffer: int, generator: Any
) -> Iterator[Raw]:
    """The samples of `shards`, `open` of them read side by side, each drawn from a buffer of so many.

    Without a generator they come as they lie, shard after shard.
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


class _Lane:
    """An open lane: it gives its batches one after the other, and skips forward."""

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


class LaneBatches:
    """Batches of lanes by their number; lanes stay open while they are asked for in order. Picklable (closed)."""

    def __init__(self, reader: ShardReader, fields: Collection[str], dealt: Dealt, seed: int) -> None:
        self.reader, self.fields, self.dealt, self.seed = reader, fields, dealt, seed
        self._open: dict[int, _Lane] = {}
        self._epoch: int | None = None

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_open": {}}

    def batch(self, epoch: int | None, lane: int, turn: int, *, take: bool = True) -> list[Raw] | int:
        """The raw samples of batch `turn` of a lane ([] where `take` is false), or how many batches the lane has
        where that is all."""
        if epoch != self._epoch:
            self._open, self._epoch = {}, epoch
        here = self._open.get(lane)
        if here is None or here.turn > turn:
            here = self._open[lane] = self._opened(epoch, lane)
        try:
            there = here.stand_at(turn)
        except Exception:
            # What is left of its iterators would look like an end.
            del self._open[lane]
            raise
        if not there:
            return here.turn
        return here.take() if take else []

    def _opened(self, epoch: int | None, lane: int) -> _Lane:
        dealt, streaming = self.dealt, self.dealt.streaming
        generator = numpy_generator(self.seed, "lane", epoch or 0, lane) if dealt.shuffle else None
        shards = dealt.of(lane, seed=self.seed, epoch=epoch)
        samples = mixed(
            self.reader, shards, self.fields, open=streaming.open, buffer=streaming.buffer, generator=generator
        )
        return _Lane(samples, dealt.batch_size, dealt.drop_last)


class Rounds:
    """Where a pass over lanes stands: batches come from the lanes in turn, one that has ended is left out.

    `ended` tells, lane by lane, how many batches it had, as far as that is known.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.ended: dict[int, int] = {}

    @property
    def over(self) -> bool:
        return len(self.ended) == self.lanes

    def place(self, batches: int) -> tuple[int, int]:
        """The round and lane of the batch that so many come before, by what is known to have ended."""
        counts = sorted(self.ended.values())
        turn, before, alive = 0, 0, self.lanes
        for count in counts:
            if before + (count - turn) * alive > batches:
                break
            before += (count - turn) * alive
            turn, alive = count, alive - 1
        if not alive:
            return turn, 0
        more, rest = divmod(batches - before, alive)
        turn += more
        lanes = [lane for lane in range(self.lanes) if self.ended.get(lane, turn + 1) > turn]
        return turn, lanes[rest]
