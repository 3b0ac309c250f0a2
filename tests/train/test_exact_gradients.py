"""Whatever the micro-batch size, the gradients are those of the whole batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmflow.data import Batch, scan
from mmflow.model.graph import Output
from mmflow.model.model import Model
from mmflow.plugin import Clock, Encoding
from mmflow.spec import Owner, Spec
from mmflow.train.losses import StepResult
from mmflow.train.step import Step

SPEC = """
mmflow: 1
name: gradients
data:
  train: {use: shapes, size: 24, pixels: 16}
views:
  two: {of: image, copies: 2, apply: [{use: random_resized_crop, size: 16}, flip]}
vars:
  to: &to {use: linear, dim: 8}
  tower: &tower {width: 16, depth: 1, heads: 2, dropout: DROPOUT, head: *to, tokens: *to}
encoders:
  image: {<<: *tower, use: vit, of: image, size: 16, patch: 8}
  text: {<<: *tower, use: text_transformer, of: caption, length: 16, causal: true}
  next: {use: caption_decoder, of: [text.layers.1, image.layers.1], depth: 1, heads: 2}
  normed: {use: mlp, of: image, dims: [12, 8], norm: batch}
  crops: {use: same, weights: image, of: two}
  joined: {use: concat, of: [image, normed]}
  after: {use: linear, of: joined, dim: 8}
  slow: {use: ema, weights: image, momentum: 0.9}
  pairs: {use: hard_pairs, of: [image, text], temperature: losses.align.temperature, exclude: label}
  fused: {use: cross_attention, of: [text.tokens, image.tokens], rows: [pairs.text, pairs.image], layers: 1, heads: 2}
  match: {use: linear, of: fused, dim: 2}
memories:
  queue: {use: queue, size: 40, of: text}
losses:
  align: {use: infonce, of: [image, text], temperature: {use: learned, init: 0.2}, negatives: queue}
  pairs: {use: siglip, of: [image, text]}
  late: {use: infonce, of: [image, text], score: maxsim, temperature: 0.5}
  caption: {use: caption_nll, of: next.logits, targets: text.ids, weight: 0.7}
  head: {use: infonce, of: [normed, text], temperature: 0.3}
  both: {use: infonce, of: [crops.0, crops.1], temperature: 0.5}
  second: {use: infonce, of: [after, text], temperature: 0.3}
  matching: {use: cross_entropy, of: match, labels: pairs.match}
  slow: {use: infonce, of: [text, slow], directions: [forward], temperature: 0.5}
train: {data: train, steps: 2, batch_size: 24}
"""


def prepared(spec: Spec) -> tuple[Model, Batch]:
    scope = spec.scope("train")
    roots = scope.roots()
    states = Model.learn_states(scope, roots, scope.source)
    model = Model.create(scope, roots, seed=3, states=states).to("cpu", torch.float64)
    batch = next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=24)))
    return model, batch


def gradients(spec: Spec, micro_batch_size: int | None, steps: int = 2) -> tuple[dict[str, Tensor], StepResult, Model]:
    """Gradients of the second step, so that the queue holds something."""
    model, batch = prepared(spec)
    step = Step(model, micro_batch_size=micro_batch_size)
    result = StepResult()
    for number in range(steps):
        model.root.zero_grad()
        result = step.run(batch, Clock(number, 10))
        model.remember(result.memories)
    found = {name: p.grad.clone() for name, p in model.modules.named_parameters() if p.grad is not None}
    return found, result, model


@pytest.fixture
def plain(load: Callable[..., Spec]) -> Spec:
    return load(SPEC.replace("DROPOUT", "0.0"))


@pytest.mark.parametrize("micro_batch_size", [1, 5, 7, 24])
def test_micro_batches_give_the_gradients_of_the_whole_batch(plain: Spec, micro_batch_size: int) -> None:
    whole, result, _ = gradients(plain, None)
    parts, again, _ = gradients(plain, micro_batch_size)
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert float((gradient - parts[name]).abs().max()) <= 1e-9 * scale, name
    assert again.numbers() == pytest.approx(result.numbers(), rel=1e-9)


def test_row_nodes_that_read_a_batch_node_run_in_a_second_wave(plain: Spec) -> None:
    nodes = prepared(plain)[0].graph.nodes
    assert (nodes[Owner("encoders", "normed")].wave, nodes[Owner("encoders", "normed")].scope) == (0, "batch")
    assert (nodes[Owner("encoders", "after")].wave, nodes[Owner("encoders", "after")].scope) == (1, "row")
    assert nodes[Owner("losses", "second")].wave == 1


def test_gathered_rows_are_nodes_of_a_later_wave(plain: Spec) -> None:
    graph = prepared(plain)[0].graph
    fused, match = (graph.nodes[Owner("encoders", name)] for name in ("fused", "match"))
    assert (fused.wave, fused.scope, fused.rows) == (match.wave, match.scope, match.rows) == (1, "row", "pair")
    kept = {(str(owner), name) for owner, name in graph.kept}
    assert ("encoders.text.tokens", "pooled") in kept
    assert ("encoders.fused", "pooled") not in kept


def test_the_step_agrees_with_autograd_over_the_uncut_graph(plain: Spec) -> None:
    found, result, _ = gradients(plain, None, steps=1)
    model, batch = prepared(plain)
    model.root.train()
    execution = model.execution
    values: dict[Owner, Encoding] = {}

    def fetch(output: Output) -> Encoding | None:
        owner, name = output
        if isinstance(owner, str):
            return model.column(batch.columns[owner])
        if owner.section == "memories":
            return None
        if owner not in values:
            values[owner] = execution.encode(model.graph.nodes[owner], fetch, batch.row_ids(), ordinal=0)
        return Encoding({name: values[owner].outputs[name]}, values[owner].axes)

    total = torch.zeros((), dtype=torch.float64)
    for node in model.graph.nodes.values():
        if node.role != "loss":
            continue
        value = execution.call(node, {r.place: execution.fetch(r, fetch) for r in node.reads}, ids=batch.ids)
        if isinstance(value, tuple):
            value = value[0].mul(value[1]).sum() / value[1].sum()
        total = total + value.mean() * execution.built(node.component, node.site, "weight")
    total.backward()
    assert result.numbers()["loss"] == pytest.approx(float(total.detach()), rel=1e-12)
    for name, parameter in model.modules.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-12)


def test_an_averaged_encoder_gets_no_gradient(plain: Spec) -> None:
    found, _, model = gradients(plain, 7)
    assert not [name for name in found if name.startswith("encoders.slow.")]
    assert [path for path, *_ in model.modules.averaged()] == [
        "encoders.slow", "encoders.slow.head", "encoders.slow.tokens"
    ]  # fmt: skip


def test_running_statistics_move_once_a_row(load: Callable[..., Spec]) -> None:
    """Two passes over a micro-batch must not count its rows twice; a batch node sees all rows at once."""
    text = SPEC.replace("DROPOUT", "0.0").replace("{use: same, weights: image, of: two}", "{use: convnet4, of: two}")
    spec = load(text)
    for micro_batch_size, moves in ((None, 1), (8, 3)):
        _, _, model = gradients(spec, micro_batch_size, steps=1)
        counts = {n: int(v) for n, v in model.modules.state_dict().items() if n.endswith("num_batches_tracked")}
        assert {c for n, c in counts.items() if n.startswith("encoders.normed")} == {1}
        assert {c for n, c in counts.items() if n.startswith("encoders.crops")} == {moves}


def test_with_dropout_a_repeated_run_gives_the_same_bits(load: Callable[..., Spec]) -> None:
    spec = load(SPEC.replace("DROPOUT", "0.2"))
    first, second = gradients(spec, 5)[0], gradients(spec, 5)[0]
    assert all(torch.equal(first[name], second[name]) for name in first)
    name = "encoders.image.head.linear.weight"
    assert not torch.equal(first[name], gradients(spec, 5, steps=1)[0][name])


def test_another_loss_does_not_change_the_draws_of_the_encoders(load: Callable[..., Spec]) -> None:
    text = SPEC.replace("DROPOUT", "0.2")
    few = load(text.replace("train: {data: train,", "train: {losses: [pairs], data: train,"), name="few.yaml")
    _, all_losses, _ = gradients(load(text), 5, steps=1)
    _, one_loss, _ = gradients(few, 5, steps=1)
    assert one_loss.numbers()["loss/pairs"] == all_losses.numbers()["loss/pairs"]
