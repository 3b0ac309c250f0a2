"""An encoder of another stage's model comes whole: structure, weights and learned preprocessing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.model.model import Model
from mmflow.model.outlook import outlook
from mmflow.model.shapes import check_shapes
from mmflow.spec import Owner, Spec, SpecError, load_text

SPEC = """
mmflow: 1
data:
  first: {use: shapes, size: 24, pixels: 16, objects: [1, 1]}
  second: {use: shapes, size: 24, pixels: 16, objects: [2, 2]}
encoders:
  image: {use: convnet4, of: image, width: 4, head: {use: linear, dim: 4}}
  text: {use: text_transformer, of: caption, width: 8, depth: 1, heads: 2, head: {use: linear, dim: 4}}
losses:
  align: {use: infonce, of: [image, text]}
stages:
  one: {use: train, data: first, steps: 2, batch_size: 8}
  two:
    use: train
    data: second
    steps: 2
    batch_size: 8
    start: init
    encoders: OWN
"""


def spec(own: str) -> Spec:
    return load_text(SPEC.replace("OWN", own))


def ran(loaded: Spec, folder: Path) -> RunOutcome:
    result = run_spec(loaded, RunOptions(store=str(folder), engine="local"))
    assert result.exit_code == 0, result.outcome.notes
    return result


def stored(folder: Path, key: str, name: str) -> Path:
    (found,) = (folder / "entries" / key).rglob(name)
    return found


@pytest.mark.slow
def test_a_frozen_encoder_under_the_name_that_it_has_there(tmp_path: Path) -> None:
    own = "{text: {use: frozen, weights: one.text}, image: {use: frozen, weights: one.image}, "
    own += "out: {use: linear, of: image, dim: 4}}\n    losses: {align: {of: [out, text]}}"
    loaded = spec(own)
    assert loaded.scope("two").structure(Owner("encoders", "image")).encoder.use == "convnet4"
    assert outlook(loaded)
    assert check_shapes(loaded).problems == []
    result = ran(loaded, tmp_path)
    stages = result.summary()["stages"]
    one, two = (load_file(stored(tmp_path, stages[name]["key"], "model.safetensors")) for name in ("one", "two"))
    frozen = [name for name in one if name.startswith(("encoders.image.", "encoders.text."))]
    assert frozen
    assert all(torch.equal(one[name], two[name]) for name in frozen)
    vocabularies = [json.loads(stored(tmp_path, stages[n]["key"], "states.json").read_text()) for n in ("one", "two")]
    assert vocabularies[0]["encoders.text"] == vocabularies[1]["encoders.text"]


@pytest.mark.parametrize("use", ["same", "ema"])
def test_weights_of_another_stage_cannot_be_shared_or_followed(use: str) -> None:
    with pytest.raises(SpecError, match=f"{use} needs weights of this stage"):
        spec(f"{{image: {{use: {use}, weights: one.image}}}}")


def test_a_frozen_encoder_reads_views_that_are_here_or_says_so() -> None:
    views = "views: {small: {of: image}}\nencoders:"
    text = SPEC.replace(
        "encoders:\n  image: {use: convnet4, of: image", f"{views}\n  image: {{use: convnet4, of: small"
    )
    own = "{image: {use: frozen, weights: one.image}}"
    assert load_text(text.replace("OWN", own)).stages
    with pytest.raises(SpecError, match="reads `small`, which is not here"):
        load_text(text.replace("OWN", f"{own}\n    views: {{small: null}}"))


def test_a_number_of_a_loss_that_is_not_minimized_is_shared_without_that_loss() -> None:
    losses = """
  align: {use: infonce, of: [image, raw], temperature: {use: learned, init: 0.07}}
  other: {use: infonce, of: [text, image], temperature: losses.align.temperature}
"""
    text = SPEC.replace("\n  align: {use: infonce, of: [image, text]}\n", losses)
    text = text.replace(
        "  image:", "  raw: {use: convnet4, of: image, width: 4, head: {use: linear, dim: 4}}\n  image:"
    )
    text = text.replace("data: first, steps: 2,", "data: first, losses: [other], steps: 2,")
    scope = load_text(text.replace("OWN", "{}")).scope("one")
    model = Model.create(scope, scope.roots(), seed=0, states=Model.learn_states(scope, scope.roots(), scope.source))
    assert "losses.align.temperature.raw" in dict(model.modules.named_parameters())
    assert Owner("losses", "align") not in model.graph.nodes
    assert Owner("encoders", "raw") not in model.graph.nodes
