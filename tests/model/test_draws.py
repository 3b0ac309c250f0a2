"""Draws have addresses by row id: neither micro-batches nor the batches of an evaluation change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmflow.data import Batch, scan
from mmflow.flow.run import RunOptions, run_spec
from mmflow.model.model import Model
from mmflow.plugin import Clock, Encoder, Loss, TensorType, Tokens
from mmflow.spec import load_text
from mmflow.train.step import Step

SPEC = """
mmflow: 1
data: {train: {use: shapes, size: 12, pixels: 16}}
views: {two: {of: image, copies: 2}}
encoders:
  image: {use: convnet4, of: image, width: 4, norm: group, head: {use: linear, dim: 4}}
  both: {use: same, weights: image, of: two}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 4}}
  NODE
losses: {l: LOSS}
train: {data: train, steps: 1, batch_size: 12}
eval: {found: {use: retrieval, data: train, of: [noisy, text], model: init}}
"""


class Asked(Encoder, name="asked"):
    """Adds noise from its generator."""

    def apply(self, a: Tensor, generator: torch.Generator) -> Tensor:
        return a + torch.randn(a.shape, generator=generator)


class Unasked(Encoder, name="unasked"):
    """Adds noise from torch's own generator."""

    def apply(self, a: Tensor) -> Tensor:
        return a + torch.randn(a.shape)


class Built(Encoder, name="built"):
    """As `unasked`, in a module that draws in evaluation too; gives tokens."""

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0]}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> torch.nn.Module:
        return Noise()


class Noise(torch.nn.Module):
    def forward(self, a: Tensor) -> Mapping[str, Any]:
        length = int(torch.randint(1, 5, ()))
        tokens = torch.randn(len(a), length, 2)
        return {
            "pooled": a + torch.randn_like(a),
            "tokens": Tokens(tokens, torch.ones(len(a), length, dtype=torch.bool)),
        }


class Shaken(Loss, name="shaken"):
    """A row loss with noise: its value is the noise alone, its weight the noise's square."""

    per_row = True

    def compute(self, a: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        noise = torch.randn(len(a), generator=generator).to(a.dtype)
        return a.sum(-1) * 0 + noise, noise.square()


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None]) -> None:
    register(Asked, Unasked, Built, Shaken)


def prepared(node: str, loss: str = "{use: infonce, of: [noisy, text]}") -> tuple[Model, Callable[[int], list[Batch]]]:
    spec = load_text(SPEC.replace("NODE", node).replace("LOSS", loss))
    scope = spec.scope("train")
    model = Model.create(scope, scope.roots(), seed=0, states=Model.learn_states(scope, scope.roots(), scope.source))
    return model, lambda size: list(scan(spec.data["train"], scope.views, model.requests(), batch_size=size))


@pytest.mark.parametrize("use", ["asked", "unasked", "built"])
@pytest.mark.parametrize("of", ["image", "both"])
def test_the_batches_of_an_evaluation_change_no_draw(use: str, of: str) -> None:
    member = "" if of == "image" else ".1"
    model, batches = prepared(f"noisy: {{use: {use}, of: {of}}}", f"{{use: infonce, of: [noisy{member}, text]}}")
    found = []
    for size in (12, 5, 1):
        parts = [model.encode(["noisy"], batch)["noisy"].pooled for batch in batches(size)]
        found.append(torch.cat(parts))
    plain = model.encode([of], batches(12)[0])[of].pooled if of == "image" else None
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=0, atol=1e-5)
    if plain is not None:
        noise = found[0] - plain
        assert len(noise.round(decimals=3).unique(dim=0)) == 12, "rows draw apart"
    else:
        assert not torch.allclose(found[0][:, 0], found[0][:, 1]), "members draw apart"


def test_an_evaluation_leaves_the_global_generator_alone() -> None:
    model, batches = prepared("noisy: {use: unasked, of: image}")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model.encode(["noisy"], batches(12)[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_tokens_of_rows_that_draw_are_padded() -> None:
    model, batches = prepared("noisy: {use: built, of: image}")
    tokens = model.encode(["noisy"], batches(12)[0], ["tokens"])["noisy"].tokens
    lengths = tokens.mask.sum(1)
    assert len(lengths.unique()) > 1
    assert tokens.values.shape[:2] == (12, int(lengths.max()))
    assert not tokens.values[~tokens.mask].any()


@pytest.mark.parametrize(
    ("node", "loss"),
    [
        ("noisy: {use: asked, of: image}", "{use: infonce, of: [noisy, text]}"),
        ("noisy: {use: asked, of: both}", "{use: infonce, of: [noisy.1, text]}"),
        ("noisy: {use: l2norm, of: image}", "{use: shaken, of: noisy}"),
    ],
)
def test_micro_batches_change_no_draw_that_was_asked_for(node: str, loss: str) -> None:
    results = []
    for micro in (None, 5, 1):
        model, batches = prepared(node, loss)
        step = Step(model, micro_batch_size=micro)
        results.append([float(step.run(batches(12)[0], Clock(number, 3)).losses["l"]) for number in range(2)])
    assert results[0][0] != results[0][1], "steps draw apart"
    assert results[1] == pytest.approx(results[0], rel=1e-5)
    assert results[2] == pytest.approx(results[0], rel=1e-5)


def test_rows_of_a_loss_draw_apart() -> None:
    model, batches = prepared("noisy: {use: l2norm, of: image}", "{use: shaken, of: noisy}")
    result = Step(model, micro_batch_size=1).run(batches(12)[0], Clock(0, 1))
    # Equal draws n in all rows would give a mean weighted by n^2 of exactly n, and a share of 12 n^2.
    assert float(result.shares["l"]) != pytest.approx(12 * float(result.losses["l"]) ** 2, rel=1e-3)


@pytest.mark.parametrize("use", ["asked", "unasked"])
def test_an_evaluation_stored_for_one_batch_size_is_right_for_another(use: str, tmp_path: Path) -> None:
    text = SPEC.replace("NODE", f"noisy: {{use: {use}, of: image}}").replace(
        "LOSS", "{use: infonce, of: [noisy, text]}"
    )
    measured = []
    for size in (12, 5):
        spec = load_text(text, overrides=[f"eval.found.batch_size={size}"])
        outcome = run_spec(spec, RunOptions(store=str(tmp_path / str(size)), engine="local"))
        measured.append([metric["value"] for metric in outcome.metrics["found"]])
    assert measured[0] == measured[1]
