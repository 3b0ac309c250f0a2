"""Which parameters `freeze` leaves out, and how a user learns which train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmflow.flow.jobs import Watcher
from mmflow.flow.run import RunOptions, run_spec
from mmflow.model.model import Model
from mmflow.model.outlook import outlook
from mmflow.model.shapes import check_shapes
from mmflow.model.trained import trainable
from mmflow.plugin import Encoder, TensorType, Value, default
from mmflow.spec import Spec, SpecError, load_text

SPEC = """
mmflow: 1
data: {train: {use: shapes, size: 16, pixels: 16}}
encoders:
  image:
    {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8},
     tokens: {use: linear, dim: 4}}
  fixed: {use: scaled, of: image, by: {use: learned, init: 2.0}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses: {align: {use: infonce, of: [fixed, text]}}
train: {data: train, steps: 1, batch_size: 8}
"""


class Scaled(Encoder, name="scaled"):
    """x times a number that may be learned."""

    by: Value = default(1.0)

    def outputs(self, *inputs: TensorType) -> dict[str, TensorType]:
        return {"pooled": inputs[0]}

    def apply(self, a: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        return a * by


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None]) -> None:
    register(Scaled)


def trained(spec: Spec) -> set[str]:
    """The modules in which parameters train."""
    scope = spec.scope("train")
    model = Model.create(scope, scope.roots(), seed=0, states=Model.learn_states(scope, scope.roots(), scope.source))
    paths = model.modules.paths()
    names = [name for name, _ in trainable(model, scope.declaration.patterns())]
    return {max((p for p in paths if name.startswith(f"{p}.")), key=len) for name in names}


IMAGE = {"encoders.image", "encoders.image.head", "encoders.image.tokens"}
TEXT, TWIN = {"encoders.text", "encoders.text.head"}, {"encoders.text.head", "encoders.text.tokens"}
BY = {"encoders.fixed.by"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("encoders.image.freeze=false", IMAGE | BY | TEXT),
        ("encoders.image.freeze=true", BY | TEXT),
        ("encoders.image.freeze=body", (IMAGE - {"encoders.image"}) | BY | TEXT),
        ("encoders.image.freeze={except: [head]}", {"encoders.image.head"} | BY | TEXT),
        ("encoders.image.head.freeze=true", (IMAGE - {"encoders.image.head"}) | BY | TEXT),
        ("encoders.fixed.freeze=true", IMAGE | TEXT),
        ("encoders.text={use: copy, weights: image, freeze: body}", IMAGE | BY | TWIN),
        ("encoders.text={use: copy, weights: image, freeze: true}", IMAGE | BY),
    ],
)  # fmt: skip
def test_freeze_is_all_of_an_encoder_unless_it_says_less(override: str, expected: set[str]) -> None:
    assert trained(load_text(SPEC, overrides=[override])) == expected


@pytest.mark.parametrize(
    "field", ["head: {use: linear, dim: 8}", "freeze: true", "lr_scale: 0.1", "init: weights.safetensors"]
)
@pytest.mark.parametrize("use", ["same", "ema"])
def test_fields_that_an_application_cannot_follow_are_refused(use: str, field: str) -> None:
    name = field.partition(":")[0]
    with pytest.raises(SpecError, match=f"`{name}` belongs to the encoder that has the weights"):
        load_text(SPEC, overrides=[f"encoders.text={{use: {use}, weights: image, {field}}}"])


def test_check_says_how_many_parameters_train() -> None:
    spec = load_text(SPEC, overrides=["encoders.image.freeze=body", "encoders.text.freeze=true"])
    (line,) = check_shapes(spec).trained
    # Projections of 16 to 8 and of 16 to 4, each with a constant.
    assert "encoders.image 204 of " in line
    assert "(head, tokens)" in line
    assert "encoders.text 0 of " in line
    lines = outlook(spec)
    assert "train: encoders.image is frozen but for its projections" in lines
    assert "train: encoders.text is frozen" in lines


def test_a_run_says_first_how_many_parameters_train(tmp_path: Path) -> None:
    class Seen(Watcher):
        def __init__(self) -> None:
            self.events: list[str] = []

        def note(self, text: str, *, warning: bool = False) -> None:
            self.events.append(text)

        def progress(self, name: str, done: int, total: int, metrics: Any) -> None:
            self.events.append("progress")

    seen = Seen()
    spec = load_text(SPEC, overrides=["train.groups={head: {match: 'encoders.image.head*'}}"])
    outcome = run_spec(spec, RunOptions(store=str(tmp_path / "store"), engine="local"), watchers=[seen])
    assert outcome.exit_code == 0
    assert seen.events[0].startswith("train: trains encoders.image 136 of ")
    assert "(head)" in seen.events[0]
    assert "losses" not in seen.events[0]
