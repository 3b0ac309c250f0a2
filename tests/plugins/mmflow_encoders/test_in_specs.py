"""Encoders as specs use them: checked whole, trained one step, equal for any micro-batch; wired by their outputs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mmflow.data import scan
from mmflow.model.model import Model
from mmflow.model.shapes import check_shapes
from mmflow.plugin import Clock
from mmflow.plugin.registry import registry
from mmflow.spec import load_text
from mmflow.train.step import Step

HEAD = "mmflow: 1\nname: made\n"
SHAPES = "data: {train: {use: shapes, split: train, size: 8, pixels: 16}}\n"
TRAIN = "train: {data: train, steps: 1, batch_size: 8}\n"

SPECS: dict[str, str] = {
    "masked images": SHAPES
    + """
views: {masked: {of: image, apply: [{use: patch_mask, patch: 4, ratio: 0.75}]}}
encoders:
  image: {use: masked_autoencoder, of: masked.image, mask: masked.mask, size: 16, patch: 4, width: 16, depth: 1}
  plain: {use: vit, of: fields.image, size: 16, patch: 4, width: 16, depth: 1}
  back: {use: reconstruction_decoder, of: [plain.tokens, fields.image], size: 16, patch: 4, width: 16, depth: 1}
losses:
  hidden: {use: mse, of: [image.reconstruction, image.target]}
  whole: {use: mse, of: [back.tokens, back.target]}
""",
    "captions": SHAPES
    + """
encoders:
  patches: {use: vit, of: image, size: 16, patch: 4, width: 16, depth: 1, registers: 1, pool: attention}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, tokenizer: byte}
  words: {use: linear, of: text.tokens, dim: 16}
  asked: {use: attention_pool, of: [patches.tokens, text], queries: 2}
  longer: {use: concat, of: [words.tokens, patches.tokens], axis: length}
  joint: {use: set_transformer, of: longer.tokens, width: 16, depth: 1}
  pieces: {use: slots, of: patches.grid, count: 3, width: 16}
  gate: {use: gated, of: [patches, text, joint], width: 8}
  times: {use: product, of: [patches, text], dim: 8, activation: tanh}
  kept: {use: adapter, of: patches, ratio: {use: learned, init: 0.2, min: 0, max: 1}}
  named: {use: lookup, of: label, width: 16}
  next: {use: caption_decoder, of: [caption, patches.tokens], tokenizer: byte, width: 16, attend: prefix, depth: 1}
losses:
  a: {use: infonce, of: [gate, times]}
  b: {use: infonce, of: [asked, pieces]}
  c: {use: infonce, of: [kept, named]}
  caption: {use: caption_nll, of: next.logits, targets: caption}
""",
    "prompts": SHAPES
    + """
encoders:
  text: {use: text_transformer, of: caption, width: 16, depth: 1, tokenizer: word, freeze: true}
  prompts: {use: prompt_tokens, of: [text.words, image], count: 2, place: middle}
  asked: {use: same, weights: text, of: prompts.tokens}
  image: {use: vit, of: fields.image, size: 16, patch: 4, width: 16, depth: 1}
losses: {align: {use: infonce, of: [image, asked]}}
""",
    "class prompts": """
data: {train: {use: named_shapes, split: train, size: 8, pixels: 16}}
encoders:
  image: {use: vit, of: fields.image, size: 16, patch: 4, width: 16, depth: 1}
  names: {use: text_transformer, of: class.name, width: 16, depth: 1, tokenizer: byte, freeze: true}
  prompts: {use: prompt_tokens, of: [names.words, image], count: 2}
  classes: {use: same, weights: names, of: prompts.tokens}
  logits: {use: scores, of: [image, classes], temperature: 0.1}
losses: {classify: {use: cross_entropy, of: logits, labels: label}}
""",
    "videos": """
data: {train: {use: motions, split: train, size: 8, pixels: 16, frames: 4}}
encoders:
  clip:
    {use: video_transformer, of: video, size: 16, patch: 4, width: 16, depth: 1, aggregate: transformer,
     cross_frame: true}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, tokenizer: byte}
losses: {align: {use: infonce, of: [clip, text]}}
""",
    "sounds": """
data: {train: {use: sounds, split: train, size: 8}}
views: {mel: {of: audio, apply: [{use: log_mel, rate: 8000, mels: 16}]}}
encoders:
  sound: {use: audio_transformer, of: mel, width: 16, depth: 1, pool: cls}
  series: {use: series_conv, of: mel, width: 16, depth: 2, stride: 1, dilation: 2, residual: true}
losses: {align: {use: infonce, of: [sound, series]}}
""",
    "a graph": """
data: {train: {use: graphs, authors: 20, papers: 40, venues: 4}}
encoders:
  z: {use: graph, of: [node.x, node.coauthors, node.venues], width: 8, paths: attention}
  logits: {use: linear, of: z, dim: 4}
losses: {classify: {use: cross_entropy, of: logits, labels: node.label}}
""",
}


NAMED = """
from mmflow.plugin import TensorType, hookimpl
from mmflow_synthetic.base import SyntheticReader
from mmflow_synthetic.shapes import Shapes

class Reader(SyntheticReader):
    def static(self):
        return {"class.name": list(self.source.classes())}

class NamedShapes(Shapes, name="named_shapes"):
    def fields(self):
        return {**super().fields(), "class.name": TensorType("text", ("class",))}

    def open(self):
        return Reader(self)

@hookimpl
def mmflow_components():
    return {"source/named_shapes": "shapes_with_names:NamedShapes"}
"""


@pytest.fixture(scope="module", autouse=True)
def source_with_names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A source of a plugin, registered for these tests: shapes with the names of their classes as a static field."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "shapes_with_names.py").write_text(NAMED)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        registry.cache_clear()
        registry().add("named", lambda: importlib.import_module("shapes_with_names"), "named", "1")
        yield
    sys.modules.pop("shapes_with_names", None)
    registry.cache_clear()


def spec_of(name: str) -> Any:
    train = TRAIN.replace(", batch_size: 8", "") if name == "a graph" else TRAIN
    return load_text(HEAD + SPECS[name] + train)


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_checked_without_a_problem(name: str) -> None:
    report = check_shapes(spec_of(name))
    assert report.problems == []
    assert report.untraced == []
    assert report.shapes


def trained(name: str, micro_batch_size: int | None) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    spec = spec_of(name)
    scope = spec.scope("train")
    roots = scope.roots()
    model = Model.create(scope, roots, seed=0, states=Model.learn_states(scope, roots, scope.source))
    model.to("cpu", torch.float64)
    if name == "a graph":
        from mmflow.data import Batch

        batch = Batch({}, [], 0, 0, 0)
    else:
        batch = next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=8)))
    result = Step(model, micro_batch_size=micro_batch_size).run(batch, Clock(0, 1))
    found = {n: p.grad.clone() for n, p in model.modules.named_parameters() if p.grad is not None}
    return result.numbers(), found


@pytest.mark.parametrize("name", SPECS)
def test_a_step_is_the_same_for_any_micro_batch(name: str) -> None:
    (numbers, gradients), (same, others) = trained(name, None), trained(name, 3)
    assert numbers.keys() == same.keys()
    for key, value in numbers.items():
        assert value == value
        assert same[key] == pytest.approx(value, rel=1e-9, abs=1e-12), key
    assert gradients
    assert gradients.keys() == others.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(others[key], gradient, msg=key)
