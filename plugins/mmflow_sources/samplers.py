"""Samplers: the order of a training pass, a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from mmflow.data.random import numpy_generator
from mmflow.plugin import Field, Sampler

RUN = 8
"""Blocks whose samples are mixed."""


class Plain(Sampler):
    """Base of the samplers that draw every sample once an epoch."""

    drop_last: bool = Field(True, description="leave out the last, smaller batch (unless it is the only one)")

    def order(self, length: int, *, seed: int, epoch: int) -> Sequence[int]:
        raise NotImplementedError

    def batches(self, length: int, batch_size: int, *, seed: int, epoch: int, labels: Any) -> Iterator[Sequence[int]]:
        order = self.order(length, seed=seed, epoch=epoch)
        for batch in range(self.count(length, batch_size)):
            yield order[batch * batch_size : (batch + 1) * batch_size]

    def count(self, length: int, batch_size: int) -> int:
        if self.drop_last and length >= batch_size:
            return length // batch_size
        return -(-length // batch_size)


class Shuffle(Plain, name="shuffle"):
    """Every sample once an epoch, in an order drawn anew for each.

    With `block`, samples that lie together stay near each other: the order of blocks of so many samples is drawn, and
    then that of the samples within each run of eight blocks. So a Parquet file (a block as large as its row groups) or
    shards over a network are read piece by piece.
    """

    example: ClassVar[str] = "sampler: {use: shuffle, drop_last: false}"

    block: int | None = Field(None, ge=1, description="samples that are read together")

    def order(self, length: int, *, seed: int, epoch: int) -> Sequence[int]:
        generator = numpy_generator(seed, "order", epoch)
        if self.block is None:
            return generator.permutation(length).tolist()
        import numpy as np

        starts = generator.permutation(np.arange(0, length, self.block)).tolist()
        drawn: list[int] = []
        for first in range(0, len(starts), RUN):
            run = [np.arange(start, min(start + self.block, length)) for start in starts[first : first + RUN]]
            drawn.extend(generator.permutation(np.concatenate(run)).tolist())
        return drawn


class Sequential(Plain, name="sequential"):
    """Every sample once an epoch, in the source's order."""

    example: ClassVar[str] = "sampler: sequential"

    def order(self, length: int, *, seed: int, epoch: int) -> Sequence[int]:
        return range(length)
