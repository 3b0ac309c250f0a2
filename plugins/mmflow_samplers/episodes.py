"""The sampler `episodes`: support and query samples of a few classes (few-shot learning)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from mmflow.plugin import ComponentError, Draw, Field, Ref, Sampled, Sampler, TensorType, numpy_generator
from mmflow_samplers.classes import LABELS, members


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
