"""Samplers: the order of a training pass, a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from mmflow.data.random import numpy_generator
from mmflow.plugin import Draw, Field, Sampler, Streamed

RUN = 8
"""Blocks whose samples are mixed."""


class Plain(Sampler):
    """Base of the samplers that draw every sample once an epoch."""

    drop_last: bool = Field(True, description="leave out the last, smaller batch (unless it is the only one)")

    def order(self, draw: Draw) -> Sequence[int]:
        raise NotImplementedError

    def batches(self, draw: Draw) -> Iterator[Sequence[int]]:
        order = self.order(draw)
        for batch in range(self.count(draw)):
            yield order[batch * draw.batch_size : (batch + 1) * draw.batch_size]

    def count(self, draw: Draw) -> int:
        if self.drop_last and draw.length >= draw.batch_size:
            return draw.length // draw.batch_size
        return -(-draw.length // draw.batch_size)


class Shuffle(Plain, name="shuffle"):
    """Every sample once an epoch, in an order drawn again for each.

    With `block`, samples that lie together stay near each other: the order of blocks of so many samples is drawn, and
    then that of the samples within each run of eight blocks. So a Parquet file (a block as large as its row groups) or
    shards over a network are read piece by piece. A streamed source is mixed as its `stream` says.
    """

    example: ClassVar[str] = "sampler: {use: shuffle, drop_last: false}"

    block: int | None = Field(None, ge=1, description="samples that are read together")

    def order(self, draw: Draw) -> Sequence[int]:
        generator = numpy_generator(draw.seed, "order", draw.epoch)
        if self.block is None:
            return generator.permutation(draw.length).tolist()
        import numpy as np

        starts = generator.permutation(np.arange(0, draw.length, self.block)).tolist()
        drawn: list[int] = []
        for first in range(0, len(starts), RUN):
            run = [np.arange(start, min(start + self.block, draw.length)) for start in starts[first : first + RUN]]
            drawn.extend(generator.permutation(np.concatenate(run)).tolist())
        return drawn

    def streamed(self) -> Streamed:
        return Streamed(shuffle=True, drop_last=self.drop_last)


class Sequential(Plain, name="sequential"):
    """Every sample once an epoch, in the source's order."""

    example: ClassVar[str] = "sampler: sequential"

    def order(self, draw: Draw) -> Sequence[int]:
        return range(draw.length)

    def streamed(self) -> Streamed:
        return Streamed(shuffle=False, drop_last=self.drop_last)
