"""The sampler `shuffle`: every sample once an epoch, in random order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mmflow.plugin import Draw, Field, Streamed, numpy_generator
from mmflow_samplers.passes import Pass

RUN = 8
"""Blocks whose samples are mixed."""


class Shuffle(Pass, name="shuffle"):
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
