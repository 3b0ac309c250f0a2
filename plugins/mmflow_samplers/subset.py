"""The sampler `subset`: the samples that a column says to keep, in random order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from mmflow.plugin import ComponentError, Draw, Field, Ref, Sampled, Sampler, numpy_generator
from mmflow_samplers.passes import cut


class Subset(Sampler, name="subset"):
    """Once an epoch, in random order, every sample whose value of `keep` is there and not 0 (or false)."""

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"keep": ("label", "mask", "number", "text", "id", "index")}
    example: ClassVar[str] = "sampler: {use: subset, keep: split.clean}"

    keep: Ref[Sampled] = Field(description="the field (or a stage's column) that says which samples take part")
    drop_last: bool = Field(True, description="leave out the last, smaller batch (unless it is the only one)")

    def batches(self, draw: Draw) -> Iterator[Sequence[int]]:
        kept = [place for place, value in enumerate(draw.columns["keep"]) if value is not None and value]
        if not kept:
            raise ComponentError("the column of the sampler subset keeps no sample at all")
        order = numpy_generator(draw.seed, "order", draw.epoch).permutation(len(kept)).tolist()
        yield from cut([kept[place] for place in order], draw.batch_size, self.drop_last)
