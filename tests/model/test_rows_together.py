"""Encoders that join rows: group axes that they make, and inputs that are the same for every row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mmflow.data import Batch
from mmflow.model.model import Model
from mmflow.plugin import Clock
from mmflow.spec import Spec
from mmflow.train.step import Step

Make = Callable[..., Spec]
Build = Callable[[Spec], tuple[Model, Batch]]

SCORED = (
    "x: {use: affine, of: many}, n: {use: affine, of: names}, "
    "s: {use: scores, of: [x, n], score: dot, temperature: {use: learned, init: 0.5}}"
)


def test_every_member_of_a_group_meets_the_same_static_rows(spec: Make, build: Build) -> None:
    model, batch = build(spec(SCORED, "l: {use: gap, of: [s.0, s.1]}"))
    found = model.encode(["x", "n", "s"], batch)
    assert found["s"].axes == ("sample", "view")
    expected = found["x"].pooled @ found["n"].pooled.T / 0.5
    torch.testing.assert_close(found["s"].pooled, expected)


def test_static_rows_get_the_gradient_of_all_micro_batches(spec: Make, build: Build) -> None:
    gradients = []
    for micro in (None, 5):
        model, batch = build(spec(SCORED, "l: {use: cross_entropy, of: s.0, labels: label}"))
        model.to("cpu", torch.float64)
        Step(model, micro_batch_size=micro).run(batch, Clock(0, 1))
        gradients.append({name: p.grad for name, p in model.modules.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() >= {"encoders.n.weight", "encoders.s.temperature.raw"}
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-9, atol=1e-12)


def test_a_stack_has_the_axis_that_it_makes(spec: Make, build: Build) -> None:
    model, batch = build(
        spec(
            "x: {use: affine, of: a}, y: {use: affine, of: a}, z: {use: stack, of: [x, y]}",
            "l: {use: gap, of: [z.0, z.1]}",
        )
    )
    found = model.encode(["x", "y", "z"], batch)
    assert found["z"].axes == ("sample", "copy")
    torch.testing.assert_close(found["z"].pooled, torch.stack([found["x"].pooled, found["y"].pooled], 1))
    result = Step(model, micro_batch_size=5).run(batch, Clock(0, 1))
    expected = (found["x"].pooled - found["y"].pooled).square().mean()
    assert float(result.losses["l"]) == pytest.approx(float(expected), rel=1e-5)


def test_an_encoder_may_use_a_number_of_the_batch(spec: Make, build: Build) -> None:
    text = SCORED.replace("{use: learned, init: 0.5}", "{use: adaptive, of: [x.0, x.1], base: 0.3}")
    gradients = []
    for micro in (None, 5, 1):
        model, batch = build(spec(text, "l: {use: cross_entropy, of: s.0, labels: label}"))
        model.to("cpu", torch.float64)
        Step(model, micro_batch_size=micro).run(batch, Clock(0, 1))
        gradients.append({name: p.grad for name, p in model.modules.named_parameters() if p.grad is not None})
    model, batch = build(spec(text, "l: {use: cross_entropy, of: s.0, labels: label}"))
    found = model.encode(["x", "n", "s"], batch)
    alike = torch.nn.functional.cosine_similarity(found["x"].pooled[:, 0], found["x"].pooled[:, 1]).mean()
    torch.testing.assert_close(found["s"].pooled, found["x"].pooled @ found["n"].pooled.T / (0.3 * (1 + 0.5 * alike)))
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, other[name], rtol=1e-9, atol=1e-12)
