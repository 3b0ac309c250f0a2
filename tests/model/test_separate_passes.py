"""`passes: separate` runs the members of groups one after another, so that statistics of a batch do not mix them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from mmflow.data import Batch
from mmflow.model.model import Model
from mmflow.plugin import Clock, Encoder, TensorType
from mmflow.spec import Spec
from mmflow.train.step import Step

Make = Callable[..., Spec]
Build = Callable[[Spec], tuple[Model, Batch]]


class Normed(Encoder, name="normed"):
    """Batch norm of a vector."""

    rowwise: bool = False

    def scope(self) -> Any:
        return "row" if self.rowwise else "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0]}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> torch.nn.Module:
        return torch.nn.BatchNorm1d(inputs[0].size[-1] or 0)


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None], spec: Make) -> None:
    register(Normed)


def gradients(made: Spec, build: Build, micro: int | None) -> tuple[float, dict[str, torch.Tensor], Model]:
    model, batch = build(made)
    model.to("cpu", torch.float64)
    for column in batch.columns.values():
        column.present = None
    result = Step(model, micro_batch_size=micro).run(batch, Clock(0, 1))
    found = {name: p.grad for name, p in model.modules.named_parameters() if p.grad is not None}
    return float(result.losses["l"]), found, model


TOGETHER = "x: {use: affine, of: many}, n: {use: normed, of: x PASSES}"
APART = "x: {use: affine, of: many}, n: {use: normed, of: x.0}, o: {use: same, weights: n, of: x.1}"


@pytest.mark.parametrize("micro", [None, 5])
def test_each_member_is_normalized_by_its_own_statistics(spec: Make, build: Build, micro: int | None) -> None:
    loss = "l: {use: gap, of: [n.0, n.1]}"
    separate, found, model = gradients(spec(TOGETHER.replace("PASSES", ", passes: separate"), loss), build, micro)
    apart, expected, _ = gradients(spec(APART, "l: {use: gap, of: [n, o]}"), build, micro)
    joint, _, other = gradients(spec(TOGETHER.replace("PASSES", ""), loss), build, micro)
    assert separate == pytest.approx(apart, rel=1e-12)
    assert separate != pytest.approx(joint, rel=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
    # Statistics move once for each of the three members.
    moves = [int(m.modules.state_dict()["encoders.n.num_batches_tracked"]) for m in (model, other)]
    assert moves == [3, 1]


def test_projections_go_as_their_encoder(spec: Make, build: Build) -> None:
    loss = "l: {use: gap, of: [x.0, x.1]}"
    text = "x: {use: affine, of: many, head: {use: normed} PASSES}"
    separate, _, _ = gradients(spec(text.replace("PASSES", ", passes: separate"), loss), build, None)
    joint, _, _ = gradients(spec(text.replace("PASSES", ""), loss), build, None)
    assert separate != pytest.approx(joint, rel=1e-6)


def test_rows_and_their_order_are_those_of_one_pass(spec: Make, build: Build) -> None:
    found = []
    for passes in ("", ", passes: separate"):
        model, batch = build(spec(f"x: {{use: affine, of: many{passes}}}", "l: {use: gap, of: [x.0, x.1]}"))
        found.append(model.encode(["x"], batch)["x"])
    assert found[0].axes == found[1].axes
    torch.testing.assert_close(found[0].pooled, found[1].pooled)
    assert found[0].present is not None
    assert found[1].present is not None
    assert torch.equal(found[0].present, found[1].present)
