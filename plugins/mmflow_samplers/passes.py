"""Passes over all samples: the base of samplers that draw each sample once an epoch, and the cutting of an order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmflow.plugin import Draw, Field, Sampler


class Pass(Sampler):
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


def cut(order: Sequence[int], batch_size: int, drop_last: bool) -> Iterator[Sequence[int]]:
    whole = len(order) // batch_size if drop_last and len(order) >= batch_size else -(-len(order) // batch_size)
    for batch in range(whole):
        yield order[batch * batch_size : (batch + 1) * batch_size]
