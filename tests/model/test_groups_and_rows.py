"""Group axes and presence in losses, and batch nodes whose rows are not those of the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmflow.data import Batch
from mmflow.model.model import Model
from mmflow.plugin import Clock, Encoder, Encoding, Labels, Loss, Ref, Refs, TensorType
from mmflow.plugin.references import Encoded
from mmflow.spec import Spec
from mmflow.train.step import Step

Make = Callable[..., Spec]
Build = Callable[[Spec], tuple[Model, Batch]]


class Members(Loss, name="members"):
    """The share of members that are present, by tensor or by encoding."""

    axes = ("*",)
    seen: bool = True

    def compute(self, a: Tensor, present: Tensor | None) -> Tensor:
        assert present is not None
        assert present.shape == a.shape[:2]
        return a.sum() * 0 + present.float().mean()


class Whole(Loss, name="whole"):
    """As `members`, for a whole encoding."""

    axes = ("*",)
    of: Refs[Encoded]  # pyright: ignore[reportIncompatibleVariableOverride]

    def compute(self, a: Encoding, present: Tensor | None) -> Tensor:
        assert present is not None
        assert a.present is not None
        assert torch.equal(a.present, present)
        return a.pooled.sum() * 0 + present.float().mean()


class Pull(Loss, name="pull"):
    """A row loss: the mean square of each row."""

    per_row = True

    def compute(self, a: Tensor) -> Tensor:
        return a.square().mean(-1)


class Means(Encoder, name="means"):
    """The mean vector of each of four classes [4, D]: rows of its own, made of the whole batch."""

    labels: Ref[Labels]

    def scope(self) -> Any:
        return "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(axes=("class",), groups=())}

    def apply(self, a: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([a[labels == number].mean(0) for number in range(4)])


class Nearest(Loss, name="nearest"):
    """A row loss between samples and the row of their class."""

    per_row = True
    axes = ("class",)
    labels: Ref[Labels]

    def compute(self, a: Tensor, means: Tensor, labels: Tensor) -> Tensor:
        return (a - means[labels]).square().sum(-1)


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None], spec: Make) -> None:
    register(Members, Whole, Pull, Means, Nearest)


@pytest.mark.parametrize("use", ["members", "whole"])
def test_presence_on_request_tells_which_members_of_ragged_groups_are_there(spec: Make, build: Build, use: str) -> None:
    model, batch = build(spec("x: {use: affine, of: many}", f"l: {{use: {use}, of: x}}"))
    # Odd rows lack the last of three members.
    assert float(Step(model, micro_batch_size=5).run(batch, Clock(0, 1)).losses["l"]) == pytest.approx(5 / 6)


@pytest.mark.parametrize("micro", [None, 5, 1])
def test_members_of_groups_are_rows_of_a_row_loss(spec: Make, build: Build, micro: int | None) -> None:
    model, batch = build(spec("x: {use: affine, of: many}", "l: {use: pull, of: x}"))
    result = Step(model, micro_batch_size=micro).run(batch, Clock(0, 1))
    encoded = model.encode(["x"], batch)["x"]
    assert encoded.present is not None
    expected = encoded.pooled[encoded.present].square().mean()
    assert float(result.losses["l"]) == pytest.approx(float(expected), rel=1e-5)
    assert result.rows["l"] == 30


@pytest.mark.parametrize("micro", [None, 5])
def test_cross_entropy_over_candidates(spec: Make, build: Build, micro: int | None) -> None:
    """One score a candidate: the candidates are the classes, and those that are absent have no share."""
    model, batch = build(spec("x: {use: affine, of: many, dim: 1}", "l: {use: cross_entropy, of: x, labels: label}"))
    label = batch.columns["fields.label"].values
    label[:] = torch.arange(12) % 2
    result = Step(model, micro_batch_size=micro).run(batch, Clock(0, 1))
    encoded = model.encode(["x"], batch)["x"]
    assert encoded.present is not None
    scores = encoded.pooled[:, :, 0].masked_fill(~encoded.present, float("-inf"))
    assert float(result.losses["l"]) == pytest.approx(float(cross_entropy(scores, label)), rel=1e-5)


@pytest.mark.parametrize("micro", [None, 5])
def test_cross_entropy_of_every_member(spec: Make, build: Build, micro: int | None) -> None:
    model, batch = build(spec("x: {use: affine, of: many}", "l: {use: cross_entropy, of: x, labels: label}"))
    result = Step(model, micro_batch_size=micro).run(batch, Clock(0, 1))
    encoded = model.encode(["x"], batch)["x"]
    assert encoded.present is not None
    label = batch.columns["fields.label"].values[:, None].expand(12, 3)
    expected = cross_entropy(encoded.pooled[encoded.present], label[encoded.present])
    assert float(result.losses["l"]) == pytest.approx(float(expected), rel=1e-5)


MEANS = "x: {use: affine, of: a}, m: {use: means, of: x, labels: label, head: {use: linear, dim: 4}}"


@pytest.mark.parametrize(
    "loss",
    ["{use: nearest, of: [x, m], labels: label}", "{use: pull, of: m}", "{use: uniformity, of: m}"],
)
def test_rows_that_a_batch_node_makes_are_not_cut_with_the_samples(spec: Make, build: Build, loss: str) -> None:
    values, gradients = [], []
    for micro in (None, 5, 1):
        model, batch = build(spec(MEANS, f"l: {loss}"))
        model.to("cpu", torch.float64)
        result = Step(model, micro_batch_size=micro).run(batch, Clock(0, 1))
        values.append(float(result.losses["l"]))
        gradients.append({name: p.grad for name, p in model.modules.named_parameters()})
        assert values[0] > 0 or "uniformity" in loss
    assert values[1:] == pytest.approx([values[0]] * 2, rel=1e-9)
    for name, gradient in gradients[0].items():
        assert gradient is not None
        for other in gradients[1:]:
            torch.testing.assert_close(other[name], gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("loss", ["uniformity", "pull"])
def test_a_graph_of_static_fields_alone_trains(spec: Make, build: Build, loss: str) -> None:
    model, batch = build(spec("n: {use: affine, of: names}", f"l: {{use: {loss}, of: n}}"))
    result = Step(model, micro_batch_size=5).run(batch, Clock(0, 1))
    encoded = model.encode(["n"], batch)["n"].pooled
    expected = encoded.square().mean() if loss == "pull" else None
    if expected is not None:
        assert float(result.losses["l"]) == pytest.approx(float(expected), rel=1e-5)
    assert result.rows["l"] > 0
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in model.parameters())
