"""Components for tests of stages inside a training: they say what they were given, and stop where they are told to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.functional import cross_entropy

from mmflow.plugin import (
    Bank,
    Column,
    Encoding,
    EvaluationResult,
    Evaluator,
    Labels,
    Loss,
    Metric,
    Model,
    Ref,
    Refs,
    Stage,
    StageContext,
    StageInputs,
    TensorType,
    Value,
    default,
)


class Crash(BaseException):
    """The end of a process, as far as one process can play it: nothing is saved on the way out."""


class Fuse:
    """Ends the process at the `left`-th call of `burn`, if it is set."""

    left: ClassVar[int] = 0

    @classmethod
    def burn(cls) -> None:
        if cls.left:
            cls.left -= 1
            if not cls.left:
                raise Crash


class Prototypes(Loss, name="prototypes"):
    """-log softmax of the products with prototypes [K, D] at the row's own, each over its own temperature."""

    prototypes: Ref[Bank]
    labels: Ref[Labels]
    temperature: Value = default(1.0, per_row=True)

    def compute(self, z: Tensor, prototypes: Encoding, labels: Tensor, temperature: Any) -> Tensor:
        bank = next(iter(prototypes.outputs.values()))
        if not isinstance(z, FakeTensor):
            Fuse.burn()
        return cross_entropy(z @ bank.T / temperature, labels, reduction="none")


class Seen(Loss, name="seen"):
    """Keeps the ids and labels that it was given; pulls the rows to zero."""

    labels: Ref[Labels] | None = None
    calls: ClassVar[list[tuple[list[str], list[int] | None]]] = []

    def compute(self, z: Tensor, labels: Tensor | None, ids: list[str]) -> Tensor:
        if not isinstance(z, FakeTensor):
            self.calls.append((ids, None if labels is None else labels.tolist()))
        return z.square().mean(-1)


class Count(Stage, name="count"):
    """The column `label`: the rows' place modulo `k`; the static number `following`: k + 1."""

    gives = {"label": "Column", "following": "Static"}
    of: Ref[Column]
    beside: Refs[Column] = ()
    k: int = 2
    calls: ClassVar[list[tuple[int, int]]] = []

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        return {"label": TensorType("label", dtype="int64"), "following": TensorType("number", ())}

    def run(self, context: StageContext) -> None:
        Fuse.burn()
        column = context.column("of")
        self.calls.append((self.k, len(self.beside)))
        context.write_column("label", column.ids, [place % self.k for place in range(len(column.ids))])
        context.write_static("following", np.int64(self.k + 1))


class Told(Evaluator, name="told"):
    """The next of some numbers, and the vectors that it measured."""

    numbers: ClassVar[list[float]] = []
    vectors: ClassVar[list[Tensor]] = []
    better: str = "higher"

    def evaluate(self, *of: Encoding) -> EvaluationResult:
        Fuse.burn()
        self.vectors.append(of[0].pooled.clone())
        number = self.numbers[len(self.vectors) - 1]
        return EvaluationResult([Metric("number", number, better=self.better)])  # type: ignore[arg-type]


class Spread(Evaluator, name="spread"):
    """The mean norm of vectors, as a metric of the weights alone."""

    def evaluate(self, vectors: Encoding) -> EvaluationResult:
        Fuse.burn()
        return EvaluationResult([Metric("norm", float(vectors.pooled.norm(dim=-1).mean()), better="lower")])


class Scaled(Stage, name="scaled"):
    """The model with all weights times `by`."""

    gives = {"model": "Model"}
    model: Ref[Model] | None = None
    by: float = 2.0

    def run(self, context: StageContext) -> None:
        Fuse.burn()
        context.write_model({path: value * self.by for path, value in context.model().weights().items()})


ALL = (Prototypes, Seen, Count, Told, Spread, Scaled)


def forget() -> None:
    """Forget what components were given."""
    Seen.calls.clear()
    Count.calls.clear()
    Told.vectors.clear()
    Told.numbers.clear()
    Fuse.left = 0


def weights(model: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for _, tensor in sorted(model.items())])
