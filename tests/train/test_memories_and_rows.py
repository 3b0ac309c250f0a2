"""Memories are read before and after a step, rows carry weights, losses begin and end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmflow.data import Batch, scan
from mmflow.model.model import Model
from mmflow.plugin import Bank, Clock, Encoding, Loss, Ref
from mmflow.spec import Spec
from mmflow.train.step import Step

SPEC = """
mmflow: 1
name: memories
data:
  train: {use: digits, split: train}
encoders:
  x: {use: convnet4, of: image, width: 4, norm: group, head: {use: linear, dim: 4}}
  y: {use: linear, of: x, dim: 4}
memories:
  bank: {use: queue, size: 64, of: x, ready: any}
losses:
  before: {use: held, of: [x], bank: bank}
  after: {use: held, of: [x], bank: bank.after}
train: {data: train, steps: 1, batch_size: 12}
"""


class Held(Loss, name="held"):
    """How many rows a memory holds, as a value without gradient."""

    bank: Ref[Bank] | None = None

    def compute(self, a: Tensor, bank: Encoding | None) -> Tensor:
        if bank is None:
            return a.sum() * 0
        count = len(bank) if bank.present is None else int(bank.present.sum())
        return a.sum() * 0 + count


@pytest.fixture
def spec(load: Callable[..., Spec], register: Callable[..., None]) -> Callable[..., Spec]:
    register(Held)
    return lambda *overrides: load(SPEC, *overrides)


def prepared(spec: Spec) -> tuple[Model, Batch]:
    scope = spec.scope("train")
    model = Model.create(scope, scope.roots(), seed=0)
    return model, next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=12)))


@pytest.mark.parametrize("micro_batch_size", [None, 5])
def test_a_memory_is_read_as_the_step_began_and_as_it_ends(
    spec: Callable[..., Spec], micro_batch_size: int | None
) -> None:
    model, batch = prepared(spec())
    step = Step(model, micro_batch_size=micro_batch_size)
    seen = []
    for number in range(3):
        result = step.run(batch, Clock(number, 3))
        model.remember(result.memories)
        seen.append((result.numbers().get("loss/before", 0.0), result.numbers()["loss/after"]))
    assert seen == [(0.0, 12.0), (12.0, 24.0), (24.0, 36.0)]


def test_a_memory_waits_until_it_is_active(spec: Callable[..., Spec]) -> None:
    model, batch = prepared(spec("memories.bank.active={from: {steps: 2}}"))
    step = Step(model, micro_batch_size=None)
    held = []
    for number in range(4):
        result = step.run(batch, Clock(number, 4))
        model.remember(result.memories)
        held.append(result.numbers().get("loss/after", 0.0))
    assert held == [0.0, 0.0, 12.0, 24.0]


@pytest.mark.parametrize("micro_batch_size", [None, 5])
def test_rows_weigh_the_values_of_a_loss(spec: Callable[..., Spec], micro_batch_size: int | None) -> None:
    """The digit itself is the weight here: rows of digit 0 take no part."""
    model, batch = prepared(spec("losses={weighed: {use: mse, of: [x, y], rows: label}}"))
    result = Step(model, micro_batch_size=micro_batch_size).run(batch, Clock(0, 1))
    encoded = model.encode(["x", "y"], batch)
    values = (encoded["x"].pooled - encoded["y"].pooled).square().mean(-1)
    weights = next(c.values for key, c in batch.columns.items() if key == "fields.label").float()
    expected = float((values * weights).sum() / weights.sum())
    assert result.numbers()["loss/weighed"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_not_active_gives_no_gradient(spec: Callable[..., Spec]) -> None:
    overrides = ["losses.before=null", "losses.after=null", "memories.bank=null"]
    late = "losses.late={use: mse, of: [x, y], active: {from: {steps: 1}}}"
    model, batch = prepared(spec(*overrides, late))
    step = Step(model, micro_batch_size=None)
    assert "loss/late" not in step.run(batch, Clock(0, 2)).numbers()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert "loss/late" in step.run(batch, Clock(1, 2)).numbers()
    assert any(parameter.grad is not None and bool(torch.any(parameter.grad)) for parameter in model.parameters())
