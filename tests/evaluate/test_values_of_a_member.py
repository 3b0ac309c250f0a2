"""Values that an evaluator has encoded by an encoder that reads one member of a group of the data."""

from __future__ import annotations

import pytest
import torch

from mmflow.model.model import Model
from mmflow.plugin.targets import Owner
from mmflow.spec import load_text
from tests.random_specs.running import carry_out

SPEC = """\
mmflow: 1
data: {{one: {{use: shapes, size: 24, pixels: 16}}}}
encoders:
  image: {{use: vit, of: image, size: 16, patch: 8, width: 8, depth: 1, heads: 2}}
  text: {{use: text_transformer, of: {of}, width: 8, depth: 1, heads: 2, length: 12, tokenizer: byte}}
losses: {{align: {{use: infonce, of: [image, text]}}}}
stages:
  train: {{use: train, data: one, steps: 2, batch_size: 8}}
  named: {{use: zero_shot, data: one, of: [image, text], labels: shape, prompts: ["a {{}}"]}}
"""


@pytest.mark.parametrize("of", ["hard_captions.0", "hard_captions.1"])
def test_class_names_are_read_as_the_member(of: str) -> None:
    outcome = carry_out(SPEC.format(of=of))
    assert outcome.state == "accepted", outcome.said


@pytest.mark.parametrize("of", ["hard_captions.0", "hard_captions.1"])
def test_a_value_is_encoded_as_that_of_a_field_without_group(of: str) -> None:
    found = []
    for one in (of, "caption"):
        scope = load_text(SPEC.format(of=one)).scope("train")
        model = Model.create(scope, [Owner("encoders", "text")], seed=0)
        found.append(model.encode_values("text", ["a red star", "a blue square"]).pooled)
    torch.testing.assert_close(found[0], found[1])
