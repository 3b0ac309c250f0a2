"""The sampler `repeated`: each sample several times in a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from mmflow.plugin import Draw, Field, Sampler, numpy_generator


class Repeated(Sampler, name="repeated"):
    """Repeated augmentation (Hoffer et al., 2020): each sample of a batch is there `times` times, with other views.

    An epoch has as many batches as one of `shuffle`, so it sees a `times`-th of the samples.
    """

    example: ClassVar[str] = "sampler: {use: repeated, times: 3}"

    times: int = Field(3, ge=2)

    def batches(self, draw: Draw) -> Iterator[Sequence[int]]:
        order = numpy_generator(draw.seed, "order", draw.epoch).permutation(draw.length).tolist()
        different = max(1, draw.batch_size // self.times)
        for batch in range(self.count(draw)):
            places = range(batch * different, (batch + 1) * different)
            yield [order[place % draw.length] for place in places for _ in range(self.times)]

    def count(self, draw: Draw) -> int:
        return max(1, draw.length // draw.batch_size)
