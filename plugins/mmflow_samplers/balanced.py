"""The sampler `balanced`: every class equally often in each batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from mmflow.plugin import Draw, Field, Ref, Sampled, Sampler, numpy_generator
from mmflow_samplers.classes import LABELS, Queue, members


class Balanced(Sampler, name="balanced"):
    """Every class equally often in each batch, however rare it is; classes are those of the column `by`.

    With `classes`, a batch holds so many of them (P classes of K samples; Hermans et al., 2017), drawn at random. An
    epoch has as many batches as one of `shuffle`. `unlabeled` gives samples without a label the weight of so many
    classes; they are left out by default.
    """

    renamed: ClassVar[Mapping[str, str]] = {"unlabelled": "unlabeled"}
    example: ClassVar[str] = "sampler: {use: balanced, by: label, classes: 8}"

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"by": LABELS}

    by: Ref[Sampled] = Field(description="the field (or a stage's column) that tells the classes")
    classes: int | None = Field(None, ge=1, description="classes in a batch; all where unset")
    unlabeled: float = Field(0.0, ge=0)

    def batches(self, draw: Draw) -> Iterator[Sequence[int]]:
        labels, batch_size = draw.columns["by"], draw.batch_size
        groups = members(labels, self.use)
        generator = numpy_generator(draw.seed, "order", draw.epoch)
        queues = [Queue(indices, generator) for indices in groups.values()]
        free = [index for index, label in enumerate(labels) if label is None]
        rest = Queue(free, generator) if free and self.unlabeled else None
        many = min(self.classes or len(queues), len(queues))
        for _ in range(self.count(draw)):
            open_places = batch_size
            taken: list[int] = []
            if rest is not None:
                share = self.unlabeled / (self.unlabeled + many)
                taken += rest.take(round(batch_size * share))
                open_places -= len(taken)
            chosen = generator.permutation(len(queues))[:many].tolist()
            for place, number in enumerate(chosen):
                count = open_places // many + (place < open_places % many)
                taken += queues[number].take(count) if count else []
            yield generator.permutation(taken).tolist()

    def count(self, draw: Draw) -> int:
        return max(1, draw.length // draw.batch_size)
