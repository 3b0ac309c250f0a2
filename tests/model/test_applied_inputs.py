"""Applications of weights take whatever their structure takes, read as it would read it."""

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
data: {{train: {{use: shapes, size: 12, pixels: 16}}}}
views:
  two: {{of: image, copies: 2, apply: [{{use: random_resized_crop, size: 16}}]}}
vars:
  tower: &tower {{width: 16, depth: 1, heads: 2, head: {{use: linear, dim: 8}}, tokens: {{use: linear, dim: 8}}}}
encoders:
  image: {{<<: *tower, use: vit, of: image, size: 16, patch: 8}}
  other: {{<<: *tower, use: vit, of: two.0, size: 16, patch: 8}}
  text: {{<<: *tower, use: text_transformer, of: caption, length: 16}}
  two_of: {{use: same, weights: image, of: two}}
  hard: {{<<: *tower, use: text_transformer, of: hard_captions, length: 16}}
  {base}
  applied: {{use: {application}, weights: base, of: {of}}}
losses:
  one: {{use: supcon, of: base, labels: label}}
  two: {{use: supcon, of: applied, labels: label}}
train: {{data: train, steps: 1, batch_size: 12}}
"""

# the structure with its input, and inputs that it is applied to
STRUCTURES = [
    ("base: {use: linear, of: image, dim: 8}", ["text", "two_of.1", "image.detach"]),
    ("base: {use: attention_pool, of: text.tokens, heads: 2}", ["image.tokens", "hard.0.tokens"]),
    ("base: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2}", ["image", "two.1"]),
    ("base: {use: text_transformer, of: caption, length: 16, width: 16, depth: 1, heads: 2}", ["caption"]),
    (
        "base: {use: cross_attention, of: [text.tokens, image.tokens], depth: 1, heads: 2}",
        ["[other.tokens, text.tokens]"],
    ),
    ("base: {use: stack, of: [image, text], axis: copy}", ["[other, two_of.0]"]),
]
CASES = [(base, of) for base, inputs in STRUCTURES for of in inputs]


@pytest.mark.parametrize("application", ["same", "copy", "ema", "frozen"])
@pytest.mark.parametrize(("base", "of"), CASES, ids=[of for _, of in CASES])
def test_an_application_reads_what_its_structure_would(base: str, of: str, application: str) -> None:
    """The same structure written out with that input has equal outputs once it has the same weights."""
    spec = load_text(SPEC.format(base=base, of=of, application=application))
    written = base.partition(", of: ")[0].replace("base: {", "{")
    rest = base.partition(", of: ")[2]
    rest = rest.partition("], ")[2] if rest.startswith("[") else rest.partition(", ")[2]
    overrides = [f"encoders.applied={written}, of: {of}, {rest}"]
    if of == "image":
        overrides = [f"encoders.applied={written}, of: fields.image, {rest}"]
    plain = load_text(SPEC.format(base=base, of=of, application=application), overrides=overrides)
    found = []
    for made in (spec, plain):
        scope = made.scope("train")
        states = Model.learn_states(scope, scope.roots(), scope.source)
        model = Model.create(scope, scope.roots(), seed=0, states=states).to("cpu", torch.float64)
        if found or application == "copy":
            state = {n: v for n, v in model.modules.state_dict().items() if n.startswith("encoders.base")}
            model.modules.load({n.replace("encoders.base", "encoders.applied", 1): v for n, v in state.items()})
        batch = next(iter(scan(made.data["train"], scope.views, model.requests(), batch_size=12)))
        found.append(model.encode(["applied"], batch)["applied"])
        if not found[1:]:
            Step(model, micro_batch_size=5).run(batch, Clock(0, 1))
    assert found[0].axes == found[1].axes
    torch.testing.assert_close(found[0].pooled, found[1].pooled)
