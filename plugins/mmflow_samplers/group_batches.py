"""The sampler `group_batches`: every batch from one group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from mmflow.plugin import ComponentError, Draw, Field, Ref, Sampled, Sampler, numpy_generator
from mmflow_samplers.classes import LABELS, members


class GroupBatches(Sampler, name="group_batches"):
    """Every batch from one group (a cluster, a source): the values of the column `by`.

    Groups that are smaller than a batch are left out with `drop_last`, as are the last samples of the others.
    """

    example: ClassVar[str] = "sampler: {use: group_batches, by: source}"

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"by": LABELS}

    by: Ref[Sampled] = Field(description="the field (or a stage's column) that tells the groups")
    drop_last: bool = True

    def batches(self, draw: Draw) -> Iterator[Sequence[int]]:
        batch_size = draw.batch_size
        generator = numpy_generator(draw.seed, "order", draw.epoch)
        found: list[list[int]] = []
        for indices in members(draw.columns["by"], self.use).values():
            order = generator.permutation(indices).tolist()
            cut = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
            found.extend(batch for batch in cut if len(batch) == batch_size or not self.drop_last)
        if not found:
            raise ComponentError(f"no group holds a batch of {batch_size}", hint="smaller batches, or drop_last: false")
        for place in generator.permutation(len(found)).tolist():
            yield found[place]
