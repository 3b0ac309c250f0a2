"""Values that modules emit: one a row, summed over blocks, exact under micro-batches, declared, and never added by
themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmflow.data import Batch, scan
from mmflow.model.model import Model
from mmflow.model.shapes import check_shapes
from mmflow.plugin import Clock, Component, Encoder, Encoding, TensorType, default, emit
from mmflow.spec import Owner, Spec, SpecError
from mmflow.train.losses import StepResult
from mmflow.train.step import Step

SPEC = """
mmflow: 1
data: {train: {use: shapes, size: 12, pixels: 16}}
views: {two: {of: image, copies: 2, apply: [flip]}}
encoders:
  below: {use: convnet4, of: image, width: 4, norm: group}
  x: {use: steps, of: below, block: {use: residual, scale: 0.5}, head: {use: spoken, dim: 3}}
  y: {use: same, weights: x, of: both}
  both: {use: same, weights: below, of: two}
  all: {use: whole, of: x}
losses:
  change: {use: emitted, of: x.change, weight: 0.5}
  pairs: {use: mse, of: [x.layers.0, x.features], weight: 0.1}
  said: {use: emitted, of: x.said}
  copies: {use: emitted, of: y.change}
  first: {use: emitted, of: y.1.change}
  spread: {use: emitted, of: all.spread}
train: {data: train, steps: 1, batch_size: 12}
"""


class Block(Component, kind="stepping"):
    """A kind of a plugin: blocks of `steps`."""

    def build(self) -> nn.Module:
        raise NotImplementedError


class Residual(Block, name="residual"):
    """Adds a linear map, and emits the squared size of the change."""

    scale: float = 1.0

    def emits(self) -> tuple[str, ...]:
        return ("change",)

    def build(self) -> nn.Module:
        return ResidualModule(self.scale)


class ResidualModule(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self.linear = scale, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        change = self.scale * self.linear(x)
        emit("change", change.square().sum(-1))
        return x + change


class Steps(Encoder, name="steps"):
    """Two blocks of any kind, with a tap behind the first."""

    block: Block = default("residual")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(size=(4,))}

    def taps(self) -> tuple[str, ...]:
        return ("layers.0",)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        return StepsModule(self.block)


class StepsModule(nn.Module):
    def __init__(self, block: Block) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([block.build(), block.build()])

    def forward(self, x: Tensor, taps: tuple[str, ...] = ()) -> dict[str, Tensor]:
        first = self.blocks[0](x.flatten(1)[:, :4])
        return {"pooled": self.blocks[1](first), **({"layers.0": first} if "layers.0" in taps else {})}


class Spoken(Encoder, name="spoken"):
    """A linear head that emits the sum of its result."""

    dim: int

    def emits(self) -> tuple[str, ...]:
        return ("said",)

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(size=(self.dim,))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        return SpokenModule(self.dim)


class SpokenModule(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(4, dim)

    def forward(self, x: Tensor) -> Tensor:
        emit("said", (out := self.linear(x)).sum(-1))
        return out


class Whole(Encoder, name="whole"):
    """A batch node that emits the distance of each row from the mean of the batch."""

    def scope(self):
        return "batch"

    def emits(self) -> tuple[str, ...]:
        return ("spread",)

    def apply(self, x: Tensor) -> Tensor:
        emit("spread", (x - x.mean(0)).square().sum(-1))
        return x


class Faulty(Encoder, name="faulty"):
    """Emits as its fields say."""

    how: str
    named: tuple[str, ...] = ("change",)

    def emits(self) -> tuple[str, ...]:
        return self.named

    def apply(self, x: Tensor) -> Tensor:
        found: dict[str, Any] = {"mean": x.mean(), "wide": x, "fewer": x[:-1, 0], "once": x[:, 0]}
        if self.how in found:
            emit("change", found[self.how])
        return x


@pytest.fixture
def spec(load: Callable[..., Spec], register: Callable[..., None]) -> Spec:
    register(Residual, Steps, Spoken, Whole, Faulty)
    return load(SPEC)


def gradients(spec: Spec, micro_batch_size: int | None) -> tuple[dict[str, Tensor], StepResult, Model, Batch]:
    scope = spec.scope("train")
    model = Model.create(scope, scope.roots(), seed=3).to("cpu", torch.float64)
    batch = next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=12)))
    result = Step(model, micro_batch_size=micro_batch_size).run(batch, Clock(0, 10))
    found = {name: p.grad.clone() for name, p in model.modules.named_parameters() if p.grad is not None}
    return found, result, model, batch


def test_emitted_values_are_those_of_the_formula_with_their_gradient(spec: Spec) -> None:
    found, result, model, batch = gradients(spec, None)
    modules: dict[str, Any] = {path: model.modules.at(f"encoders.{path}") for path in ("below", "x", "x.head")}
    model.root.zero_grad()
    images = model.column(batch.columns["fields.image>encoders.below#0"]).outputs["value"]
    copies = model.column(batch.columns["views.two>encoders.below#0"]).outputs["value"]

    def run(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The value before the head, that behind the first block, and the change."""
        x = modules["below"](images)
        x = (x["pooled"] if isinstance(x, Mapping) else x).flatten(1)[:, :4]
        steps = [0.5 * modules["x"].blocks[0].linear(x)]
        first = x + steps[0]
        steps.append(0.5 * modules["x"].blocks[1].linear(first))
        return first + steps[1], first, steps[0].square().sum(-1) + steps[1].square().sum(-1)

    top, _, change = run(images)
    out = modules["x.head"].linear(top)
    apart = [run(copies[:, number])[2] for number in range(2)]
    expected = {
        "change": change.mean(),
        "said": out.sum(-1).mean(),
        "copies": torch.stack(apart).mean(),
        "first": apart[1].mean(),
        "spread": (out - out.mean(0)).square().sum(-1).mean(),
    }
    for name, value in expected.items():
        assert float(result.losses[name]) == pytest.approx(float(value.detach()), rel=1e-12), name
    # Half of the first one, as its weight says, and a tenth of the other loss.
    total = 0.5 * expected["change"] + sum(value for name, value in expected.items() if name != "change")
    total = total + 0.1 * (run(images)[1] - top).square().mean()
    total.backward()
    for name, parameter in model.modules.named_parameters():
        torch.testing.assert_close(parameter.grad, found.get(name), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("micro_batch_size", [1, 5])
def test_micro_batches_change_no_gradient(spec: Spec, micro_batch_size: int) -> None:
    whole, result, _, _ = gradients(spec, None)
    parts, again, _, _ = gradients(spec, micro_batch_size)
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-9, atol=1e-12)
    assert again.numbers() == pytest.approx(result.numbers(), rel=1e-9)


def test_nothing_is_added_to_a_loss_by_itself(load: Callable[..., Spec], register: Callable[..., None]) -> None:
    register(Residual, Steps, Spoken, Whole)
    text = SPEC.partition("losses:")[0] + "losses: {pairs: {use: mse, of: [x.layers.0, x.features]}}\n"
    spec = load(f"{text}train: {{data: train, steps: 1, batch_size: 12}}\n")
    _, result, model, batch = gradients(spec, None)
    assert set(result.losses) == {"pairs"}
    # Asked for, it is there, in evaluation as well.
    encoded = model.encode(["x"], batch, ("pooled", "change"))["x"]
    assert encoded["change"].shape == (12,)


def test_check_knows_what_is_emitted(spec: Spec, load: Callable[..., Spec]) -> None:
    scope = spec.scope("train")
    assert scope.outputs(Owner("encoders", "x"))["change"].modality == "number"
    assert scope.outputs(Owner("encoders", "y"))["change"].axes == ("sample", "copy")
    assert check_shapes(spec).problems == []
    with pytest.raises(SpecError, match=r"encoders?.*without `chang`; did you mean change\?"):
        load(SPEC.replace("of: x.change", "of: x.chang"))


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ("how: mean", r"emits 'change' of the shape \[\], expected one value a row \[N\]"),
        ("how: wide", r"emits 'change' of the shape \[\d+, \d+\], expected one value a row"),
        ("how: fewer", r"emits 'change' for \d+ rows, expected one value for each of"),
        ("how: never", "declares that it emits 'change', and has not done so"),
        ("how: once, named: []", "emits 'change', which its declaration does not name"),
        ("how: once, named: [pooled]", "emits 'pooled', and has an output of that name"),
    ],
)
def test_a_faulty_emission_is_told_before_the_first_step(
    spec: Spec, load: Callable[..., Spec], node: str, says: str
) -> None:
    text = SPEC.partition("losses:")[0].replace("  all:", f"  bad: {{use: faulty, of: x, {node}}}\n  all:")
    end = "losses: {l: {use: uniformity, of: bad}}\ntrain: {data: train, steps: 1, batch_size: 12}\n"
    try:
        said = "\n".join(f"{p.message}, expected {p.expected}" for p in check_shapes(load(text + end)).problems)
    except SpecError as error:
        said = str(error)
    import re

    assert re.search(says, said), said


def test_outside_of_mmflow_a_module_that_emits_just_runs() -> None:
    x = torch.ones(2, 4)
    assert ResidualModule(0.0)(x).equal(x)
    assert isinstance(Encoding({"pooled": x})["pooled"], Tensor)
