"""Adapters, freezing and groups on the models of every library: gradients and optimizer state are of what trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mmflow.data import scan
from mmflow.model.model import Model
from mmflow.plugin import Clock
from mmflow.spec import load_text
from mmflow.train.optimization import Optimization
from mmflow.train.step import Step

pytest.importorskip("transformers")
pytest.importorskip("open_clip")
pytest.importorskip("sentence_transformers")
pytest.importorskip("timm")
pytest.importorskip("peft")
pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
data: {{train: {{use: shapes, size: 8, pixels: 32}}}}
encoders: {{x: {encoder}}}
losses: {{l: {{use: uniformity, of: x}}}}
train:
  data: train
  steps: 1
  batch_size: 8
  optimizer: {{use: adamw, lr: 1e-2}}
"""
GROUPS = (
    "train.groups={all: {match: encoders.x}, a: {match: '*lora_A*', lr: 0.5}, b: {match: '*.bias', weight_decay: 0}}"
)
"""They say what trains, also of frozen weights, but for those beneath adapters."""
HEAD = "head: {use: linear, dim: 6}"
TRANSFORMERS = "use: transformers, hub: {%s}, of: %s"
ENCODERS = {
    "vit": TRANSFORMERS % ("vit", "image"),
    "bert": TRANSFORMERS % ("bert", "caption"),
    "qwen2": TRANSFORMERS % ("qwen2", "caption"),
    "clip": f"{TRANSFORMERS % ('clip', 'image')}, tower: image",
    "siglip": f"{TRANSFORMERS % ('siglip', 'caption')}, tower: text",
    "open_clip": "use: open_clip, tower: text, hub: {open_clip}, of: caption",
    "sentences": "use: sentence_transformers, hub: {sentences}, of: caption",
    "timm": "use: timm, config: {{architecture: test_vit}}, size: 32, of: image",
}


HOW = ("lora: {rank: 2}", "freeze: body", "freeze: {except: [head.linear.weight]}", "freeze: {except: ['*bias', head]}")


@pytest.mark.parametrize("micro", [None, 3])
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("how", HOW)
def test_gradients_and_state_are_of_what_trains(
    models: Callable[[str], Path], name: str, how: str, micro: int | None
) -> None:
    written = ENCODERS[name].format(**{name: models(name)} if name != "timm" else {})
    overrides = [GROUPS] if how.startswith("lora") else []
    spec = load_text(SPEC.format(encoder=f"{{{written}, {HEAD}, {how}}}"), overrides=overrides)
    scope = spec.scope("train")
    model = Model.create(scope, scope.roots(), seed=0)
    before = {key: value.clone() for key, value in model.modules.state_dict().items()}
    batch = next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=8)))
    optimization = Optimization(spec.stages["train"], model)
    optimization.begin(Clock(0, 1))
    Step(model, micro_batch_size=micro).run(batch, Clock(0, 1))
    optimization.optimizer.step()

    def trains(key: str) -> bool:
        key = key.removeprefix("encoders.x.")
        if how.startswith("lora"):
            return "lora_" in key or key.startswith("head.")
        if how == "freeze: body":
            return key.startswith("head.")
        return key == "head.linear.weight" or ("bias" in how and (key.endswith("bias") or key.startswith("head.")))

    parameters = dict(model.modules.named_parameters())
    wanted = {key for key in parameters if trains(key)}
    assert wanted
    graded = {key for key, parameter in parameters.items() if parameter.grad is not None}
    assert graded <= wanted
    numbers = {id(parameters[key]) for key in wanted}
    assert {key for key, _ in optimization.named} == wanted
    assert {id(parameter) for parameter in optimization.optimizer.state} <= numbers
    assert {id(parameters[key]) for key in graded} == {id(p) for p in optimization.optimizer.state}
    moved = {key for key, value in model.modules.state_dict().items() if not value.equal(before[key])}
    assert moved
    assert moved <= wanted
    groups = optimization.optimizer.param_groups
    rates = {key: group for group in groups for key in group["names"]}
    assert all(rates[key]["lr"] == (0.5 if "lora_A" in key else 0.01) for key in wanted)
    if overrides:
        assert all(rates[key]["weight_decay"] == 0 for key in wanted if key.endswith(".bias"))
