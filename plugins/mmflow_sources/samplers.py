"""Samplers: the order of a training pass, a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from mmflow.data.random import numpy_generator
from mmflow.plugin import Field, Sampler


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
    """Every sample once an epoch, in an order drawn anew for each."""

    example: ClassVar[str] = "sampler: {use: shuffle, drop_last: false}"

    def order(self, length: int, *, seed: int, epoch: int) -> Sequence[int]:
        return numpy_generator(seed, "order", epoch).permutation(length).tolist()


class Sequential(Plain, name="sequential"):
    """Every sample once an epoch, in the source's order."""

    example: ClassVar[str] = "sampler: sequential"

    def order(self, length: int, *, seed: int, epoch: int) -> Sequence[int]:
        return range(length)
