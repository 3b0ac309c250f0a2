"""The JSON Schema for editors: sound specs pass, and a mistake is told at its own field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BeforeValidator
from pydantic_core import PydanticUndefined

from mmflow.plugin.references import reference_fields
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
    # The definitions for overlays are the others with less: one of each kind is looked at.
    looked_at = {n: d for n, d in schema["$defs"].items() if n.count(".") < 2 or not n.startswith("overlay.")}
    jsonschema.Draft202012Validator.check_schema({**schema, "$defs": looked_at})
    return jsonschema.Draft202012Validator(schema)


def test_sound_specs_pass(validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(parse_text(TEXT, "t").data)] == []


ROOT = Path(__file__).parents[2]
SPECS = [*(ROOT / "specs").rglob("*.yaml"), *(ROOT / "examples").rglob("*.yaml")]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_specs_that_ship_pass(validator: Any, path: Path) -> None:
    if path.parent == ROOT / "examples" / "plugin":
        pytest.skip("its components are not installed")
    data = parse_text(path.read_text(encoding="utf-8"), path.name).data
    assert [error.message for error in validator.iter_errors(data)] == []


OVERLAY = """\
extends: base.yaml
seed: null
train: {epochs: 4, optimizer: {lr: 1e-4}, schedule: null}
encoders:
  image: {width: 64, head: {dim: 32}, tokens: null}
  text: null
losses:
  align: {temperature: {init: 0.1}}
  other: {use: infonce, score: maxsim}
eval: {retrieval: {at: [1, 5]}}
"""


def test_an_overlay_is_partial_and_removes(validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(parse_text(OVERLAY, "t").data)] == []
    whole = OVERLAY.replace("extends: base.yaml\n", "")
    assert len(list(validator.iter_errors(parse_text(whole, "t").data))) > 3


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ("score: maxsim", "scor: maxsim", "losses.other"),
        ("score: maxsim", "score: maxsin", "losses.other.score"),
        ("lr: 1e-4", "use: adamw, lr: true", "train.optimizer.lr"),
        ("epochs: 4", "epochs: many", "train.epochs"),
        ("eval:", "evals:", ""),
        ("base.yaml", "[3]", "extends.0"),
    ],
)
def test_a_mistake_in_an_overlay_is_told_at_its_field(validator: Any, before: str, after: str, path: str) -> None:
    assert before in OVERLAY
    errors = list(validator.iter_errors(parse_text(OVERLAY.replace(before, after, 1), "t").data))
    assert [".".join(str(part) for part in error.absolute_path) for error in errors] == [path]


def test_a_name_has_its_text(validator: Any) -> None:
    definitions = validator.schema["$defs"]
    text = definitions["score.maxsim"]["properties"]["use"]["description"]
    assert text == definitions["score.maxsim"]["description"]
    names = definitions["score.names"]
    offered = dict(zip(names["enum"], names["enumDescriptions"], strict=True))
    assert text.startswith(offered["maxsim"].split(". ")[0][:40])
    field = definitions["loss.infonce"]["properties"]["score"]
    assert {"$ref": "#/$defs/score.names"} in field["anyOf"]
    aware = [
        rule
        for rule in definitions["score"]["else"]["allOf"]
        if rule["then"]["$ref"].startswith("#/$defs/score.maxsim/")
    ]
    assert len(aware) == 1


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


def validators_before(annotation: Any, metadata: Any = ()) -> Iterator[Any]:
    """The functions that read short forms, at any depth of a field's type."""
    yield from (mark for mark in metadata if isinstance(mark, BeforeValidator))
    for part in get_args(annotation):
        yield from validators_before(part, getattr(part, "__metadata__", ()))


def test_short_forms_of_fields_are_in_the_schema() -> None:
    untold = []
    for found in registry().registrations():
        made = registry().get(found.kind, f"{found.name}@{found.distribution}")
        references = reference_fields(made)
        for name, decorator in made.__pydantic_decorators__.field_validators.items():
            if decorator.info.mode == "before" and decorator.info.json_schema_input_type is PydanticUndefined:
                untold.append(f"{made.__name__}.{name}")
        for name, field in made.model_fields.items():
            marks = validators_before(field.annotation, field.metadata)
            if name not in references and any(mark.json_schema_input_type is PydanticUndefined for mark in marks):
                untold.append(f"{made.__name__}.{name}")
    assert not untold, "give BeforeValidator and field_validator a json_schema_input_type"
