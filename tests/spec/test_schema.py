"""The JSON Schema for editors: sound specs pass, and a mistake is told at its own field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmflow.plugin.registry import registry
from mmflow.spec.components.schema import json_schema
from mmflow.spec.text.yaml_reader import parse_text

jsonschema = pytest.importorskip("jsonschema")

TEXT = """\
mmflow: 1
vars: {dim: 16}
data:
  train: {use: shapes, size: 400}
views:
  two: {of: image, copies: 2, apply: [flip, {use: flip}]}
encoders:
  image: {use: vit, of: image, width: $vars.dim, freeze: {except: [head]}, head: {use: linear, dim: $vars.dim}}
  text: {use: encoder/text_transformer, of: [caption]}
  slow: {use: ema, weights: image}
memories:
  past: {use: queue, size: 64, of: text}
  keys: {use: queue, size: 64, of: {a: text, b: image}, active: {from: {epochs: 2}}}
parts:
  late: {use: score/maxsim}
losses:
  align: {use: infonce, of: [image, text], temperature: {use: learned, init: 0.07}, score: parts.late}
  other: {use: infonce, of: [image, text], temperature: 0.07, score: cosine, negatives: past}
train: {data: train, epochs: 1, losses: {align: {weight: 2}, other: null}, optimizer: {use: adamw, lr: 1e-3}}
stages:
  more: {use: train, data: {use: shapes, size: 10}, steps: 2, losses: [align]}
eval:
  retrieval: {use: retrieval, data: train, of: [image, text]}
"""


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(json.dumps(json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_sound_specs_pass(validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(parse_text(TEXT, "t").data)] == []
    quickstart = Path(__file__).parents[2] / "specs" / "quickstart.yaml"
    assert list(validator.iter_errors(parse_text(quickstart.read_text(), "q").data)) == []


def test_every_installed_component_is_described(validator: Any) -> None:
    definitions = validator.schema["$defs"]
    for registration in registry().registrations():
        assert f"{registration.kind}.{registration.name}" in definitions
    assert definitions["loss.infonce"]["properties"]["temperature"]["default"] is not None


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        (
            "use: infonce, of: [image, text], temperature: {",
            "use: infonce, of: [image, text], temperatur: {",
            "losses.align",
        ),
        ("use: learned, init: 0.07", "use: learned, init: warm", "losses.align.temperature.init"),
        ("use: learned, init: 0.07", "use: learnd, init: 0.07", "losses.align.temperature.use"),
        ("head: {use: linear, dim: $vars.dim}", "head: {use: linear, dim: x}", "encoders.image.head.dim"),
        ("head: {use: linear, dim: $vars.dim}", "head: {use: linear}", "encoders.image.head"),
        ("copies: 2", "copies: 0", "views.two.copies"),
        ("size: 64, of: text", "size: big, of: text", "memories.past.size"),
        ("data: train, epochs: 1", "data: train, epochs: [1]", "train.epochs"),
        ("lr: 1e-3", "lr: true", "train.optimizer.lr"),
        ("of: [image, text]}\n", "of: [image, 3]}\n", "eval.retrieval.of"),
        ("losses:\n", "loses:\n", ""),
        ("  text:", "  te xt:", "encoders"),
    ],
)
def test_a_mistake_is_told_at_its_field(validator: Any, before: str, after: str, path: str) -> None:
    assert before in TEXT
    errors = list(validator.iter_errors(parse_text(TEXT.replace(before, after, 1), "t").data))
    assert [".".join(str(part) for part in error.absolute_path) for error in errors] == [path]
