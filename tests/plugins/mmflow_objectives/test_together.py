"""All losses over one model in one step: cutting the batch changes no gradient, captions name their ids either way."""

from __future__ import annotations

import pytest
import torch

from mmflow.data import scan
from mmflow.model.model import Model
from mmflow.plugin import Clock
from mmflow.spec import load_text
from mmflow.train.step import Step

SPEC = """
mmflow: 1
name: together
data: {train: {use: shapes, split: train, size: 12, pixels: 16}}
encoders:
  patches: {use: vit, of: fields.image, size: 16, width: 16, depth: 1}
  image: {use: attention_pool, of: patches.tokens, head: {use: linear, dim: 8}}
  look: {use: attention_pool, of: patches.tokens, queries: 3}
  text:
    {use: text_transformer, of: caption, tokenizer: byte, width: 16, depth: 1, causal: true, pool: cls,
     head: {use: linear, dim: 8}}
  next: {use: caption_decoder, of: [text.tokens, look.tokens], depth: 1}
  bn: {use: mlp, of: image, dims: [8, 8], norm: batch}
memories:
  keys: {use: queue, size: 20, of: {text: text.detach, image: image.detach}}
parts:
  late: {use: score/maxsim}
losses:
  align: {use: infonce, of: [image, text], temperature: {use: learned, init: 0.07}, negatives: keys.text}
  sigmoid: {use: siglip, of: [bn, text], temperature: losses.align.temperature}
  late: {use: infonce, of: [look, text], score: parts.late, temperature: 0.2}
  caption: {use: caption_nll, of: next.logits, targets: caption, weight: 2.0}
  same_caption: {use: caption_nll, of: next.logits, targets: text.ids}
  labels: {use: supcon, of: [image, bn], labels: label}
  spread: {use: uniformity, of: [image, text]}
  near: {use: alignment, of: [image, text]}
  ranked: {use: triplet, of: [image, text]}
train: {data: train, steps: 2, batch_size: 12}
"""


def two_steps(micro_batch_size: int | None) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Numbers and gradients of the second of two steps, which reads the queue that the first has filled."""
    spec = load_text(SPEC)
    scope = spec.scope("train")
    roots = scope.roots()
    model = Model.create(scope, roots, seed=0).to("cpu", torch.float64)
    batch = next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=12)))
    step, numbers = Step(model, micro_batch_size=micro_batch_size), {}
    for number in range(2):
        for _, parameter in model.modules.named_parameters():
            parameter.grad = None
        result = step.run(batch, Clock(number, 2))
        model.memories.update(result.memories)
        numbers = result.numbers()
    found = {n: p.grad.clone() for n, p in model.modules.named_parameters() if p.grad is not None}
    return numbers, found


@pytest.fixture(scope="module")
def whole() -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    return two_steps(None)


@pytest.mark.parametrize("micro_batch_size", [1, 5, 7])
def test_micro_batches_give_the_gradients_of_the_batch(
    whole: tuple[dict[str, float], dict[str, torch.Tensor]], micro_batch_size: int
) -> None:
    numbers, gradients = two_steps(micro_batch_size)
    assert numbers == pytest.approx(whole[0], rel=1e-12)
    assert gradients.keys() == whole[1].keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, whole[1][name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("micro_batch_size", [1, 5, None])
def test_the_caption_loss_is_the_mean_over_all_tokens_of_the_batch(micro_batch_size: int | None) -> None:
    spec = load_text(SPEC)
    scope = spec.scope("train")
    model = Model.create(scope, scope.roots(), seed=0).to("cpu", torch.float64)
    batch = next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=12)))
    found = Step(model, micro_batch_size=micro_batch_size).run(batch, Clock(0, 2)).losses["caption"]
    logits = model.encode(["next"], batch, ("logits",))["next"].outputs["logits"]
    ids = model.encode(["text"], batch, ("ids",))["text"].outputs["ids"]
    total, tokens = 0.0, 0
    for row in range(12):
        for place in range(int(ids.mask[row].sum()) - 1):
            total -= float(logits.values[row, place].log_softmax(-1)[ids.values[row, place + 1]])
            tokens += 1
    # Texts differ in length: a mean of the rows' means would be another number.
    assert len(set(ids.mask.sum(1).tolist())) > 1
    assert float(found) == pytest.approx(total / tokens, rel=1e-9)


def test_every_parameter_learns(whole: tuple[dict[str, float], dict[str, torch.Tensor]]) -> None:
    assert [name for name, gradient in whole[1].items() if gradient.abs().max() == 0] == []


def test_a_caption_as_target_is_its_ids(whole: tuple[dict[str, float], dict[str, torch.Tensor]]) -> None:
    assert whole[0]["loss/caption"] == whole[0]["loss/same_caption"]
