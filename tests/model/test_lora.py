"""Low-rank adapters: they alone train, weights of models without them fit, merged and apart are one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmflow.artifacts import ModelArtifact
from mmflow.data import Batch, scan
from mmflow.flow.plan import build_plan
from mmflow.flow.run import RunOptions, open_store, run_spec
from mmflow.model.lora import adapt, merged, outside_name, state
from mmflow.model.model import Model
from mmflow.model.outlook import outlook
from mmflow.model.shapes import check_shapes
from mmflow.plugin import Clock, ComponentError, Lora
from mmflow.spec import Owner, Spec, load_text
from mmflow.train.optimization import Optimization, move_averages
from mmflow.train.step import Step

SPEC = """
mmflow: 1
data:
  train: {use: shapes, size: 16, pixels: 16}
views: {two: {of: image, copies: 2, apply: [flip]}}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 2, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses: {align: {use: infonce, of: [image, text]}}
train: {data: train, steps: 2, batch_size: 8, optimizer: {use: adamw, lr: 1e-2}}
"""
LORA = "encoders.image.lora={rank: 2, alpha: 6, targets: [blocks.0, '*.query']}"
OTHER = "encoders.other={use: %s, weights: image, of: two.0}"
WITH_OTHER = "losses.other={use: infonce, of: [other, text]}"


def model_of(spec: Spec, stage: str = "train") -> tuple[Model, Batch]:
    scope = spec.scope(stage)
    roots = scope.roots()
    model = Model.create(scope, roots, seed=3, states=Model.learn_states(scope, roots, scope.source))
    model.to("cpu", torch.float64)
    return model, next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=8)))


def drawn(model: Model) -> Model:
    """The model with adapters that change something."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.modules.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=generator)
    return model


def stepped(spec: Spec, micro: int | None = None) -> dict[str, Tensor]:
    model, batch = model_of(spec)
    Step(drawn(model), micro_batch_size=micro).run(batch, Clock(0, 2))
    return {name: p.grad for name, p in model.modules.named_parameters() if p.grad is not None}


def test_before_the_first_step_nothing_is_changed_and_names_stay() -> None:
    plain, batch = model_of(load_text(SPEC))
    adapted, _ = model_of(load_text(SPEC, overrides=[LORA]))
    assert plain.encode(["image"], batch)["image"].pooled.equal(adapted.encode(["image"], batch)["image"].pooled)
    more = adapted.modules.state_dict().keys() - plain.modules.state_dict().keys()
    assert plain.modules.state_dict().keys() <= adapted.modules.state_dict().keys()
    assert {name.rpartition(".lora_")[0] for name in more} == {
        "encoders.image.blocks.0.self_attention.query", "encoders.image.blocks.0.self_attention.key_value",
        "encoders.image.blocks.0.self_attention.out", "encoders.image.blocks.0.mlp.0",
        "encoders.image.blocks.0.mlp.3", "encoders.image.blocks.1.self_attention.query",
    }  # fmt: skip
    assert "encoders.image.blocks.1.self_attention.query.lora_A.weight" in more


def test_the_adapters_and_the_head_train_and_nothing_else() -> None:
    spec = load_text(SPEC, overrides=[LORA, "encoders.text.freeze=true"])
    found = stepped(spec)
    assert found
    assert all("lora_" in name or name.startswith("encoders.image.head.") for name in found)
    model, _ = model_of(spec)
    optimization = Optimization(spec.stages["train"], model)
    assert {name for name, _ in optimization.named} == found.keys()
    (line,) = check_shapes(spec).trained
    assert "(adapters, head)" in line


def test_freeze_leaves_out_by_name_and_groups_move_no_weight_beneath_adapters() -> None:
    found = stepped(load_text(SPEC, overrides=[LORA, "encoders.image.freeze={except: ['blocks.1.norm_*']}"]))
    names = {name for name in found if name.startswith("encoders.image.") and "lora_" not in name}
    assert names == {
        f"encoders.image.blocks.1.{norm}.{kind}" for norm in ("norm_self", "norm_mlp") for kind in ("weight", "bias")
    }
    groups = "train.groups={all: {match: encoders.image}, a: {match: '*lora_A*', lr: 0.5}}"
    spec = load_text(SPEC, overrides=[LORA, groups])
    optimization = Optimization(spec.stages["train"], model_of(spec)[0])
    optimization.begin(Clock(0, 2))
    rates = {name: group["lr"] for group in optimization.optimizer.param_groups for name in group["names"]}
    assert {"lora_" in name or ".head." in name for name in rates} == {True}
    assert {rate for name, rate in rates.items() if "lora_A" in name} == {0.5}
    assert {rate for name, rate in rates.items() if "lora_A" not in name} == {0.01}


class Layers(nn.Module):
    """A layer of each kind that can have adapters."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.conv, self.linear = nn.Embedding(7, 4), nn.Conv2d(1, 3, 3), nn.Linear(4, 5)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, ids: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        words = self.embed(ids)
        mixed, _ = self.attention(words, words, words)
        return words, self.conv(x), self.linear(words), mixed, self.block(words)


@pytest.mark.parametrize("alpha", [None, 5.0])
def test_adapted_layers_follow_the_formula_and_merge_into_one_weight(alpha: float | None) -> None:
    torch.manual_seed(0)
    # In evaluation torch's own layers take shortcuts past their parts.
    layers = Layers().eval()
    ids, x = torch.randint(7, (3, 5)), torch.randn(2, 1, 6, 6)
    before = layers(ids, x)
    names = list(layers.state_dict())
    adapt(
        layers, Lora(rank=2, alpha=alpha, targets=("embed", "conv", "linear", "attention", "block")), says="encoders.x"
    )
    assert all(a.equal(b) for a, b in zip(before, layers(ids, x), strict=True))
    for name, parameter in layers.named_parameters():
        if "lora_B" in name or "embedding_A" in name:
            nn.init.normal_(parameter, std=0.1)
    apart = layers(ids, x)
    values = state(layers, adapted=True)
    assert set(names) <= values.keys()
    change = (alpha or 2) / 2 * values["linear.lora_B.weight"] @ values["linear.lora_A.weight"]
    expected = apart[0] @ (values["linear.weight"] + change).T + values["linear.bias"]
    torch.testing.assert_close(apart[2], expected, rtol=0, atol=1e-6)
    whole = merged(layers)
    assert list(whole.state_dict()) == names
    assert not all(a.allclose(b) for a, b in zip(before, apart, strict=True))
    for one, other in zip(whole(ids, x), apart, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    with torch.no_grad():
        moved = [name for name, value in whole.state_dict().items() if not value.equal(values[name])]
    assert {name.rpartition(".")[0] for name in moved} >= {"embed", "conv", "linear", "attention", "block.linear1"}
    # The adapted module itself is as it was.
    assert all(a.equal(b) for a, b in zip(apart, layers(ids, x), strict=True))


def test_by_default_all_linear_layers_and_attentions_are_adapted() -> None:
    layers = Layers()
    adapt(layers, Lora(rank=1), says="encoders.x")
    adapted = {outside_name(name).partition(".lora_")[0] for name, _ in layers.named_parameters() if "lora_" in name}
    assert adapted == {
        "linear", "attention", "attention.out_proj", "block.self_attn", "block.self_attn.out_proj", "block.linear1",
        "block.linear2",
    }  # fmt: skip
    with pytest.raises(ComponentError, match="takes its inputs without dropout"):
        adapt(Layers(), Lora(rank=1, dropout=0.1), says="encoders.x")


@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_change_no_gradient(micro: int) -> None:
    spec = load_text(SPEC, overrides=[LORA, "encoders.text.lora={rank: 1}"])
    whole, parts = stepped(spec), stepped(spec, micro)
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-9, atol=1e-12)


def test_dropout_of_adapters_draws() -> None:
    spec = load_text(SPEC, overrides=["encoders.image.lora={rank: 2, dropout: 0.5}", "train.micro_batch_size=4"])
    assert "train: encoders.image draw (dropout), so micro_batch_size is part of the result" in outlook(spec)
    first, again = stepped(spec), stepped(spec)
    assert all(first[name].equal(gradient) for name, gradient in again.items())
    still = load_text(SPEC, overrides=["encoders.image.lora={rank: 2}", "train.micro_batch_size=4"])
    assert not [line for line in outlook(still) if "draw" in line]


@pytest.mark.parametrize("use", ["same", "ema", "frozen", "copy, start: equal"])
def test_applications_have_the_adapters_of_the_encoder(use: str) -> None:
    spec = load_text(SPEC, overrides=[LORA, OTHER % use, WITH_OTHER])
    model, batch = model_of(spec)
    pair = model.encode(["image", "other"], batch)
    flipped = load_text(SPEC, overrides=[LORA, "encoders.other={use: same, weights: image, of: two.0}", WITH_OTHER])
    expected = model_of(flipped)[0].encode(["other"], batch)["other"].pooled
    assert pair["other"].pooled.equal(expected)
    own = {name.removeprefix("encoders.other.") for name, _ in model.modules.named_parameters() if "other" in name}
    image = {name.removeprefix("encoders.image.") for name, _ in model.modules.named_parameters() if "image" in name}
    assert own == (set() if use == "same" else image)
    if use == "ema":
        drawn(model)
        follows = {name: p for name, p in model.modules.named_parameters() if "lora_B" in name}
        before = {name: p.clone() for name, p in follows.items()}
        move_averages(model, "after_step", Clock(0, 2))
        for name, value in follows.items():
            if name.startswith("encoders.other"):
                source = before[name.replace("other", "image")]
                torch.testing.assert_close(value, before[name].lerp(source, 1 - 0.996))


def test_the_file_of_an_encoder_goes_beneath_its_adapters(tmp_path: Path) -> None:
    plain, _ = model_of(load_text(SPEC))
    body = plain.modules.at("encoders.image")
    assert body is not None
    torch.nn.init.normal_(next(body.parameters()))
    save_file({name: value.float() for name, value in body.state_dict().items()}, tmp_path / "w.safetensors")
    spec = load_text(SPEC, overrides=[LORA, f"encoders.image.init={tmp_path}/w.safetensors"])
    adapted, _ = model_of(spec)
    stored = load_file(tmp_path / "w.safetensors")
    for name, value in adapted.modules.state_dict().items():
        own = name.removeprefix("encoders.image.")
        if own in stored and not own.startswith("head"):
            assert value.float().equal(stored[own]), name


STAGES = """
stages:
  first: {use: train, data: train, steps: 2, batch_size: 8}
  second:
    {use: train, data: train, steps: 3, batch_size: 8, encoders: {image: {lora: {rank: 2}}, text: {lora: {rank: 2}}}}
  third: {use: train, data: train, steps: 2, batch_size: 8}
eval:
  found: {use: retrieval, data: train, of: [image, text]}
"""


@pytest.mark.slow
def test_a_stage_puts_adapters_beside_the_model_that_it_begins_with(tmp_path: Path) -> None:
    spec = load_text(SPEC.partition("train: {data: train, steps")[0] + STAGES)
    outcome = run_spec(spec, RunOptions(str(tmp_path), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    store = open_store(str(tmp_path))
    first, second, third = (
        ModelArtifact(store.fetch(outcome.plan[name].key)).weights() for name in ("first", "second", "third")
    )
    assert first.keys() < second.keys() == third.keys()
    for name, value in second.items():
        if "lora_" not in name and ".head." not in name:
            assert value.equal(first[name]), name
    moved = [name for name in third if not third[name].equal(second[name])]
    assert moved
    assert all("lora_" in name or ".head." in name for name in moved)
    # The evaluation, which says nothing of adapters, has those of the model that it uses.
    scope = spec.scope("found")
    model = Model.load(
        ModelArtifact(store.fetch(outcome.plan["third"].key)), scope, scope.roots(), seed=0,
        upstream=lambda stage: store.fetch(outcome.plan[stage].key),
    )  # fmt: skip
    assert model.modules.state_dict().keys() == third.keys()
    assert all(value.equal(third[name]) for name, value in model.modules.state_dict().items())
    keys = {stage.name: stage.key for stage in build_plan(spec)}
    other = {s.name: s.key for s in build_plan(load_text(spec.to_yaml().replace("rank: 2", "rank: 3")))}
    assert keys["first"] == other["first"]
    assert not {name for name in ("second", "third", "found") if keys[name] == other[name]}


@pytest.mark.slow
def test_a_stopped_training_of_adapters_goes_on_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmflow.flow.stopping import Stopper

    spec = load_text(SPEC, overrides=["encoders.image.lora={rank: 2, dropout: 0.2}", "train.steps=6"])

    def weights(store: str) -> dict[str, Tensor]:
        outcome = run_spec(spec, RunOptions(f"{tmp_path}/{store}", engine="local", device="cpu"))
        assert outcome.exit_code == 0, outcome.outcome.notes
        return ModelArtifact(open_store(f"{tmp_path}/{store}").fetch(outcome.plan["train"].key)).weights()

    whole = weights("whole")
    asked: list[int] = []
    polled = Stopper.polled

    def stop_at_the_fourth(self: Stopper) -> bool:
        asked.append(len(asked))
        if len(asked) == 4:
            self.reason = "SIGTERM"
        return polled(self)

    monkeypatch.setattr(Stopper, "polled", stop_at_the_fourth)
    outcome = run_spec(spec, RunOptions(f"{tmp_path}/cut", engine="local", device="cpu"))
    assert outcome.outcome.stages["train"] == "stopped"
    monkeypatch.setattr(Stopper, "polled", polled)
    again = weights("cut")
    assert whole.keys() == again.keys()
    assert all(value.equal(again[name]) for name, value in whole.items())


def test_an_encoder_says_of_which_owner_its_adapters_are(register: Callable[..., None]) -> None:
    scope = load_text(SPEC, overrides=[LORA, OTHER % "copy", WITH_OTHER]).scope("train")
    assert scope.structure(Owner("encoders", "other")).encoder.lora == scope.encoders["image"].lora
