"""Faults that authors make, each caught by the kit with a message that names it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from mmflow.plugin import (
    Encoder,
    Encoding,
    EvaluationResult,
    Evaluator,
    Loss,
    Memory,
    Metric,
    Score,
    Source,
    TensorType,
    Transform,
)
from mmflow.testing import (
    Case,
    EncoderCase,
    EvaluatorCase,
    Fault,
    Inputs,
    MemoryCase,
    ScoreCase,
    SourceCase,
    TransformCase,
    checks_of,
)

Register = Callable[..., None]
VECTOR = TensorType("vector", size=(6,))


def vectors(rows: int = 11, seed: int = 0) -> Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PAIR = {"a": vectors(seed=1), "b": vectors(seed=2)}
CENTER = torch.zeros(6, dtype=torch.float64)


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.square()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class WrongGradient(Loss, name="wrong_gradient"):
    """A square whose backward pass is that of a line: x^2 (2020)."""

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        return Hidden.apply(a - b).sum(-1)  # type: ignore[union-attr]


class BatchDependent(Loss, name="batch_dependent"):
    """A row loss that divides by the rows that it sees: |a - b| / n."""

    per_row: ClassVar[bool] = True

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().sum(-1) / len(a)


class Overflows(Loss, name="overflows"):
    """exp(a b) without a shift."""

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(-1).exp().log1p()


class OrderDependent(Loss, name="order_dependent"):
    """Distance to the row before: |a_i - b_(i-1)|."""

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b.roll(1, 0)).square().sum(-1)


class RankDependent(Loss, name="rank_dependent"):
    """A loss that asks which process it is in: rank * |a - b|."""

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        from torch import distributed

        rank = distributed.get_rank() if distributed.is_initialized() else 0
        return (a - b).square().sum(-1) * (1 + rank)


class DrawsAnywhere(Loss, name="draws_anywhere"):
    """Noise from the global generator: |a - b + noise|^2."""

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b + torch.randn_like(a)).square().sum(-1)


class Unbounded(Loss, name="unbounded"):
    """A number that may be anything: scale |a - b|."""

    scales: dict[str, str] = {}
    counts: Any = 1

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().sum(-1)


class NoText(Loss, name="no_text"):
    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().sum(-1)


class LooksAround(Encoder, name="looks_around"):
    """A row encoder that subtracts the mean of the batch."""

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0]}

    def apply(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class OtherShape(Encoder, name="other_shape"):
    """An encoder that declares six numbers and gives five."""

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0]}

    def apply(self, x: Tensor) -> Tensor:
        return x[:, :5]


class SecretDropout(Encoder, name="secret_dropout"):
    """An encoder that draws and does not say so."""

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0]}

    def build(self, *inputs: TensorType, state: Any) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Dropout(0.5))


class CrossedPairs(Score, name="crossed_pairs"):
    """A score whose pairs are not its diagonal: <a, b>."""

    def blocks(self, a: Encoding, b: Encoding) -> Tensor:
        return a.pooled @ b.pooled.T

    def pairs(self, a: Encoding, b: Encoding) -> Tensor:
        return (a.pooled - b.pooled).sum(-1)


class InPlace(Memory, name="in_place"):
    """A memory that changes the state that it is given."""

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        return {"rows": torch.zeros(4, 6)}

    def update(self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        state["rows"][0] = columns["value"][0]
        return dict(state)

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding]:
        return {"value": Encoding({"pooled": state["rows"]})}


class Shaky:
    """A reader whose ids change, and which cannot be pickled."""

    def __init__(self) -> None:
        self.begin = random.randrange(10**9)
        self.read = lambda index, fields: {"x": np.zeros(6, np.float32)}

    def __len__(self) -> int:
        return 3

    def id(self, index: int) -> str:
        return str(self.begin + index)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.read(index, ())

    def static(self) -> Mapping[str, Any]:
        return {}


class ShakySource(Source, name="shaky"):
    """A source with such a reader."""

    def fields(self) -> Mapping[str, TensorType]:
        return {"x": VECTOR}

    def open(self) -> Shaky:
        return Shaky()


class GlobalNoise(Transform, name="global_noise"):
    """Noise that is drawn from numpy's global generator."""

    def apply(self, value: Any, generator: Any) -> Any:
        return value + np.random.normal(size=value.shape)


class FirstRow(Evaluator, name="first_row"):
    """The share of rows near the first one: it depends on the order of rows."""

    def evaluate(self, *of: Encoding) -> EvaluationResult:
        near = (of[0].pooled - of[0].pooled[0]).norm(dim=-1) < 3
        return EvaluationResult([Metric("near", float(near.double().mean()), chance=0.5)])


class NoChance(Evaluator, name="no_chance"):
    """A number that random encodings have, too, far from the chance that it states."""

    def evaluate(self, *of: Encoding) -> EvaluationResult:
        return EvaluationResult([Metric("accuracy", 0.9, chance=0.1)])


RANDOM = Inputs((Encoding({"pooled": vectors(60)}),))

FAULTS: list[tuple[Any, Any, str, str]] = [
    (
        WrongGradient,
        Case(WrongGradient(of=("a", "b")), PAIR),
        "gradient",
        "the gradient for `a` is not that of the value",
    ),
    (BatchDependent, Case(BatchDependent(of=("a", "b")), PAIR), "micro_batches", "micro-batches of 1 change value"),
    (Overflows, Case(Overflows(of=("a", "b")), PAIR), "extremes", "values times 1e4 .* make the value inf"),
    (OrderDependent, Case(OrderDependent(of=("a", "b")), PAIR), "row_order", "the order of rows changes"),
    (RankDependent, Case(RankDependent(of=("a", "b")), PAIR), "ranks", "on rank 1 of 2 its value is another"),
    (DrawsAnywhere, Case(DrawsAnywhere(of=("a", "b")), PAIR), "draws", "it draws without an address"),
    (NoText, Case(NoText(of=("a", "b")), PAIR), "documented", "no docstring"),
    (LooksAround, EncoderCase(LooksAround(of=("x",)), (VECTOR,)), "other_rows", "the other rows change the output"),
    (OtherShape, EncoderCase(OtherShape(of=("x",)), (VECTOR,)), "shapes", "output `pooled` has another shape"),
    (SecretDropout, EncoderCase(SecretDropout(of=("x",)), (VECTOR,)), "says_that_it_draws", "say so in `draws"),
    (CrossedPairs, ScoreCase(CrossedPairs()), "pairs_are_the_diagonal", "`pairs` is not the diagonal"),
    (InPlace, MemoryCase(InPlace(of={"value": "a"})), "update_is_pure", "changes `rows` in place"),
    (ShakySource, SourceCase(ShakySource()), "ids", "ids change when the source is opened again"),
    (ShakySource, SourceCase(ShakySource()), "reader_travels", "cannot be pickled"),
    (
        GlobalNoise,
        TransformCase(GlobalNoise(), np.zeros(6), VECTOR),
        "draws_from_its_generator",
        "draws from somewhere",
    ),
    (GlobalNoise, TransformCase(GlobalNoise(), np.zeros(6), VECTOR), "evaluation_form", "differs from time to time"),
    (FirstRow, EvaluatorCase(FirstRow(data="d", of=("x",)), RANDOM), "row_order", "the order of rows changes `near`"),
    (NoChance, EvaluatorCase(NoChance(data="d", of=("x",)), RANDOM), "chance", "far from its chance"),
]


@pytest.mark.parametrize(("made", "case", "check", "says"), FAULTS, ids=[f"{m.use}-{c}" for m, _, c, _ in FAULTS])
def test_a_planted_fault_is_named(register: Register, made: Any, case: Any, check: str, says: str) -> None:
    register(made)
    found = {each.name.partition(": ")[2]: each for each in checks_of([], [case]) if hasattr(each, "run")}
    with pytest.raises(Fault, match=says):
        found[check]()


def test_a_component_without_inputs_says_what_its_author_has_to_give() -> None:
    (skipped,) = [each for each in checks_of(["loss/caption_nll"]) if not hasattr(each, "run")]
    assert "give a value for" in skipped.reason  # type: ignore[union-attr]


def test_every_check_has_a_name_and_a_promise() -> None:
    checks = list(checks_of(["loss/mse"]))
    assert len({each.name for each in checks}) == len(checks) > 10
    assert all(each.says for each in checks)  # type: ignore[union-attr]
