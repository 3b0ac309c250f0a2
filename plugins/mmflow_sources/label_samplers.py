"""Samplers that follow a column: classes in balance, batches of one group, episodes of few-shot learning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from mmflow.data.random import numpy_generator
from mmflow.plugin import ComponentError, Draw, Field, Ref, Sampled, Sampler, TensorType

LABELS = ("label", "number", "text", "id")


def members(labels: Sequence[Any], use: str) -> dict[Any, list[int]]:
    """Indices of each label, labels in sorted order; samples without one are left out."""
    found: dict[Any, list[int]] = {}
    for index, label in enumerate(labels):
        if label is not None:
            found.setdefault(label, []).append(index)
    if not found:
        raise ComponentError(f"the column of the sampler {use} holds no value at all")
    return dict(sorted(found.items(), key=lambda item: (str(type(item[0])), item[0])))


class Queue:
    """Goes through the members of a class in random order, again and again, each time in a new one."""

    def __init__(self, indices: Sequence[int], generator: Any) -> None:
        self.indices, self.generator = indices, generator
        self._left: list[int] = []

    def take(self, count: int) -> list[int]:
        """The next members; all different while the class has so many."""
        taken: list[int] = []
        while len(taken) < count:
            if not self._left:
                # Not those already in this batch first, where there are others.
                order = self.generator.permutation(self.indices).tolist()
                self._left = sorted(order, key=lambda index: index in taken)
            taken.append(self._left.pop(0))
        return taken


class Balanced(Sampler, name="balanced"):
    """Every class equally often in each batch, however rare it is; classes are those of the column `by`.

    With `classes`, a batch holds so many of them (P classes of K samples; Hermans et al., 2017), drawn at random. An
    epoch has as many batches as one of `shuffle`. `unlabeled` gives samples without a label the weight of so many
    classes; they are left out by default.
    """

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


class Episodes(Sampler, name="episodes"):
    """Episodes of few-shot learning (Vinyals et al., 2016): `way` classes, `shot` and `query` samples of each.

    A batch is one episode, its size follows. Adds `sampler.label` (0 to way - 1 within the episode), `sampler.support`
    and `sampler.query` (which rows are which). Classes with fewer than shot + query samples are left out.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {
        "label": TensorType("label", dtype="int64"),
        "support": TensorType("label", dtype="bool", names=("no", "yes")),
        "query": TensorType("label", dtype="bool", names=("no", "yes")),
    }
    example: ClassVar[str] = "sampler: {use: episodes, by: label, way: 5, shot: 1, query: 5}"

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"by": LABELS}

    by: Ref[Sampled] = Field(description="the field (or a stage's column) that tells the classes")
    way: int = Field(5, ge=2)
    shot: int = Field(1, ge=1)
    query: int = Field(5, ge=1)
    episodes: int = Field(100, ge=1, description="episodes in an epoch")

    def batches(self, draw: Draw) -> Iterator[Any]:
        import numpy as np

        each = self.shot + self.query
        groups = [indices for indices in members(draw.columns["by"], self.use).values() if len(indices) >= each]
        if len(groups) < self.way:
            raise ComponentError(
                f"{len(groups)} classes have {each} samples, {self.way} are needed",
                found=str(len(groups)), expected=f"at least {self.way} classes",
            )  # fmt: skip
        generator = numpy_generator(draw.seed, "order", draw.epoch)
        support = np.arange(self.way * each) % each < self.shot
        columns = {"label": np.repeat(np.arange(self.way), each), "support": support, "query": ~support}
        for _ in range(self.episodes):
            chosen = generator.choice(len(groups), self.way, replace=False).tolist()
            drawn = [generator.choice(groups[number], each, replace=False).tolist() for number in chosen]
            yield [index for indices in drawn for index in indices], columns

    def count(self, draw: Draw) -> int:
        return self.episodes


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
