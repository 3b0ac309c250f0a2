"""Numbers of the batch: a statistic of all rows, whatever the micro-batch, for losses and encoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mmflow.data import Batch, scan
from mmflow.model.model import Model
from mmflow.plugin import BatchValue, Clock, ComponentError, Loss, Value, default
from mmflow.spec import load_text
from mmflow.train.losses import StepResult
from mmflow.train.step import Step

SPEC = """
mmflow: 1
data: {{train: {{use: shapes, size: 24, pixels: 16}}}}
vars: {{tower: &tower {{width: 16, depth: 1, heads: 2, head: {{use: linear, dim: 8}}}}}}
encoders:
  image: {{<<: *tower, use: vit, of: image, size: 16, patch: 8}}
  text: {{<<: *tower, use: text_transformer, of: caption, length: 16}}
losses: {{{losses}}}
train: {{data: train, steps: 4, batch_size: 24}}
"""


class MeanNorm(BatchValue, name="mean_norm"):
    """The mean norm of the rows, with gradient."""

    def compute(self, a: Tensor) -> Tensor:
        return a.norm(dim=-1).mean()


class Wrong(BatchValue, name="one_a_row"):
    """One number a row, which is none of the batch."""

    def compute(self, a: Tensor) -> Tensor:
        return a.norm(dim=-1)


class Scaled(Loss, name="scaled"):
    """Mean square of a row, over a number."""

    per_row = True
    by: Value = default(1.0)

    def compute(self, a: Tensor, by: Any) -> Tensor:
        return a.square().mean(-1) / by


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None]) -> None:
    register(MeanNorm, Wrong, Scaled)


def prepared(losses: str) -> tuple[Model, Batch]:
    spec = load_text(SPEC.format(losses=losses))
    scope = spec.scope("train")
    states = Model.learn_states(scope, scope.roots(), scope.source)
    model = Model.create(scope, scope.roots(), seed=0, states=states).to("cpu", torch.float64)
    return model, next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=24)))


def ran(losses: str, micro: int | None) -> tuple[StepResult, dict[str, Tensor]]:
    model, batch = prepared(losses)
    result = Step(model, micro_batch_size=micro).run(batch, Clock(0, 1))
    return result, {name: p.grad for name, p in model.modules.named_parameters() if p.grad is not None}


def alike(losses: str) -> dict[str, float]:
    """The numbers of a step whose gradients are those of the whole batch for every micro-batch size."""
    whole, gradients = ran(losses, None)
    for micro in (1, 5):
        parts, found = ran(losses, micro)
        assert found.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
        assert parts.numbers() == pytest.approx(whole.numbers(), rel=1e-9)
    return whole.numbers()


ALIGN = "align: {use: infonce, of: [image, text], temperature: TEMPERATURE}"


def test_a_temperature_follows_the_similarity_of_pairs_and_has_no_gradient() -> None:
    adaptive = "{use: adaptive, of: [image, text], base: 0.2, gain: 0.7, center: 0.1}"
    numbers = alike(ALIGN.replace("TEMPERATURE", adaptive))
    model, batch = prepared(ALIGN.replace("TEMPERATURE", "1.0"))
    encoded = model.encode(["image", "text"], batch)
    mean = float(cosine_similarity(encoded["image"].pooled, encoded["text"].pooled).mean())
    temperature = 0.2 * (1 + 0.7 * (mean - 0.1))
    result, gradients = ran(ALIGN.replace("TEMPERATURE", f"{temperature!r}"), None)
    assert numbers["loss/align"] == pytest.approx(result.numbers()["loss/align"], rel=1e-9)
    _, found = ran(ALIGN.replace("TEMPERATURE", adaptive), None)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-7, atol=1e-12)


def test_a_number_may_be_shared_and_reached_through_a_loss_that_is_not_minimized() -> None:
    shared = ALIGN.replace("TEMPERATURE", "{use: adaptive, of: [image, text], base: 0.2}")
    shared += ", again: {use: infonce, of: [text, image], temperature: losses.align.temperature}"
    numbers = alike(shared)
    assert numbers["loss/again"] == pytest.approx(numbers["loss/align"], rel=1e-9), "both directions count"
    spec = load_text(SPEC.format(losses=shared), overrides=["train.losses=[again]"])
    scope = spec.scope("train")
    states = Model.learn_states(scope, scope.roots(), scope.source)
    model = Model.create(scope, scope.roots(), seed=0, states=states).to("cpu", torch.float64)
    batch = next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=24)))
    alone = Step(model, micro_batch_size=5).run(batch, Clock(0, 1)).numbers()
    assert alone == pytest.approx({k: v for k, v in numbers.items() if "align" not in k} | {"loss": alone["loss"]})


@pytest.mark.parametrize("field", ["by", "weight"])
def test_a_number_with_gradient_is_exact_in_a_row_loss_and_as_a_weight(field: str) -> None:
    numbers = alike(f"l: {{use: scaled, of: text, {field}: {{use: mean_norm, of: image}}}}")
    model, batch = prepared("l: {use: mse, of: [image, text]}")
    found = model.encode(["image", "text"], batch)
    norm = float(found["image"].pooled.norm(dim=-1).mean())
    square = float(found["text"].pooled.square().mean())
    assert numbers["loss"] == pytest.approx(square / norm if field == "by" else square * norm, rel=1e-9)
    _, gradients = ran(f"l: {{use: scaled, of: text, {field}: {{use: mean_norm, of: image}}}}", 5)
    assert any(name.startswith("encoders.image.") and bool(grad.any()) for name, grad in gradients.items())


def test_what_is_no_number_of_the_batch_is_refused_by_name() -> None:
    model, batch = prepared("l: {use: scaled, of: text, by: {use: one_a_row, of: image}}")
    with pytest.raises(ComponentError, match=r"losses\.l\.by: compute\(\) of Wrong") as caught:
        Step(model, micro_batch_size=None).run(batch, Clock(0, 1))
    assert "0-d" in caught.value.expected
