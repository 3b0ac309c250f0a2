"""A sampler of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmflow.plugin import Draw, Sampler, numpy_generator


class CLASS(Sampler, name="NAME"):
    """Every sample once an epoch, in blocks of neighbors that are shuffled.

    Say here in what order samples are drawn: a function of the draw alone, so that a run goes on after a kill.
    """

    example: ClassVar[str] = "NAME"

    def batches(self, draw: Draw) -> Iterator[Any]:
        """The batches of one epoch, as lists of places in the data."""
        blocks = list(range(0, draw.length, draw.batch_size))
        for block in numpy_generator(draw.seed, "NAME", draw.epoch).permutation(len(blocks)):
            start = blocks[int(block)]
            yield list(range(start, min(start + draw.batch_size, draw.length)))
