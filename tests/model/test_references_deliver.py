"""References bring what their type says, or are refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmflow.data import Batch
from mmflow.flow.run import RunOptions, run_spec
from mmflow.model.model import Model
from mmflow.plugin import (
    Clock,
    Column,
    ComponentError,
    Encoder,
    EvaluationResult,
    Evaluator,
    Files,
    Loss,
    Metric,
    Parameters,
    Ref,
    Refs,
    Static,
)
from mmflow.plugin.references import Encoded, Pooled
from mmflow.spec import Spec, SpecError, load_text
from mmflow.train.step import Step

Make = Callable[..., Spec]
Build = Callable[[Spec], tuple[Model, Batch]]


class Penalty(Loss, name="penalty"):
    """Sum of squares of weights."""

    on: Ref[Parameters]

    def compute(self, on: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([weight.square().sum() for weight in on.values()]).sum()


class Distance(Loss, name="weight_distance"):
    """Squared distance of the weights of two entries."""

    on: Refs[Parameters]

    def compute(self, on: list[Mapping[str, Tensor]]) -> Tensor:
        one, two = on
        assert one.keys() == two.keys()
        return torch.stack([(one[name] - two[name]).square().sum() for name in one]).sum()


class Joined(Loss, name="joined"):
    column: Ref[Column]

    def compute(self, a: Tensor, column: Any) -> Tensor:
        return a.sum()


class Fixed(Loss, name="fixed"):
    static: Ref[Static]

    def compute(self, a: Tensor, static: Any) -> Tensor:
        return a.sum()


class Filed(Loss, name="filed"):
    files: Ref[Files]

    def compute(self, a: Tensor, files: Any) -> Tensor:
        return a.sum()


class Reader(Evaluator, name="reader"):
    """Says what it was given; `of` may be left out."""

    column: Ref[Column] | None = None
    whole: Ref[Encoded] | None = None
    vector: Ref[Pooled] | None = None
    weights: Ref[Parameters] | None = None

    def evaluate(self, column: Any, whole: Any, vector: Any, weights: Any, ids: list[str]) -> EvaluationResult:
        rows = len(ids) if column is None else sum(value is not None for value in column)
        found = [Metric("rows", rows)]
        if whole is not None:
            found.append(Metric("mean_of_whole", float(whole.pooled.mean())))
        if vector is not None:
            found.append(Metric("mean_of_vector", float(vector.mean())))
        return EvaluationResult(found)


class Twice(Encoder, name="twice"):
    """Learns under one name from two inputs."""

    def learns(self) -> tuple[int, ...]:
        return (0, 1)

    def learn(self, index: int, values: Iterable[Any]) -> dict[str, Any]:
        return {"words": sorted(set(values))}

    def apply(self, a: Tensor, b: Tensor) -> Tensor:
        return a


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None], spec: Make) -> None:
    register(Penalty, Distance, Joined, Fixed, Filed, Reader, Twice)


def test_weights_are_given_by_name_with_their_gradient(spec: Make, build: Build) -> None:
    encoders = "x: {use: affine, of: a, head: {use: linear, dim: 2}}, y: {use: same, weights: x, of: some}"
    for entry in ("x", "y"):
        for micro in (None, 5):
            model, batch = build(spec(encoders, f"l: {{use: penalty, on: {entry}}}"))
            result = Step(model, micro_batch_size=micro).run(batch, Clock(0, 1))
            expected = sum(float(p.detach().square().sum()) for p in model.parameters())
            assert float(result.losses["l"]) == pytest.approx(expected, rel=1e-6)
            assert all(p.grad is not None and torch.equal(p.grad, 2 * p) for p in model.parameters())


def test_weights_of_several_entries_and_of_a_number(spec: Make, build: Build) -> None:
    encoders = "x: {use: affine, of: a}, z: {use: copy, weights: x, of: some}"
    losses = "l: {use: weight_distance, on: [x, z]}, n: {use: penalty, on: losses.t.temperature}"
    losses += ", t: {use: infonce, of: [x, z], temperature: {use: learned, init: 0.5}}"
    model, batch = build(spec(encoders, losses))
    result = Step(model, micro_batch_size=None).run(batch, Clock(0, 1))
    state = model.modules.state_dict()
    expected = sum(
        float((state[f"encoders.x.{n}"] - state[f"encoders.z.{n}"]).square().sum()) for n in ("weight", "bias")
    )
    assert float(result.losses["l"]) == pytest.approx(expected, rel=1e-5)
    assert float(result.losses["n"]) == pytest.approx(float(state["losses.t.temperature.raw"]) ** 2, rel=1e-6)


def test_an_entry_without_weights_has_none_to_give(spec: Make, build: Build) -> None:
    model, batch = build(
        spec("x: {use: affine, of: a}, u: {use: l2norm, of: x}", "l: {use: penalty, on: u}, g: {use: gap, of: [x, u]}")
    )
    with pytest.raises(ComponentError, match="has no parameters"):
        Step(model, micro_batch_size=None).run(batch, Clock(0, 1))


STAGES = """
mmflow: 1
data: {train: {use: shapes, size: 24, pixels: 16}}
encoders:
  image: {use: convnet4, of: image, width: 4, norm: group, head: {use: linear, dim: 4}}
  other: {use: l2norm, of: image}
losses: {l: LOSS}
stages:
  feats: {use: embed, data: train, of: image, model: init}
  fit: {use: train, data: train, steps: 1, batch_size: 8}
eval: {read: EVAL}
"""


@pytest.mark.parametrize(
    ("loss", "evaluator", "message"),
    [
        ("{use: joined, of: image, column: fit}", "{use: reader, data: train}", "expected a stage's column"),
        (
            "{use: fixed, of: image, static: feats.image}",
            "{use: reader, data: train}",
            "expected a stage's static output",
        ),
        (
            "{use: filed, of: image, files: fit.history}",
            "{use: reader, data: train}",
            "a loss cannot be given a stage's files",
        ),
        ("{use: mse, of: [image, other]}", "{use: reader, data: train, weights: image}", "a stage cannot be given"),
        ("{use: penalty, on: feats}", "{use: reader, data: train}", "expected a component with weights"),
    ],
)
def test_references_that_cannot_be_delivered_are_refused(loss: str, evaluator: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_text(STAGES.replace("LOSS", loss).replace("EVAL", evaluator))


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ("", {"rows"}),
        (", column: feats.image", {"rows"}),
        (", whole: image", {"rows", "mean_of_whole"}),
        (", vector: other, column: feats.image", {"rows", "mean_of_vector"}),
        (", whole: other, vector: image, of: []", {"rows", "mean_of_whole", "mean_of_vector"}),
    ],
)
def test_an_evaluator_reads_columns_and_encoders_through_any_field(
    tmp_path: Path, fields: str, names: set[str]
) -> None:
    text = STAGES.replace("LOSS", "{use: mse, of: [image, other]}").replace(
        "EVAL", f"{{use: reader, data: train{fields}, model: init}}"
    )
    outcome = run_spec(load_text(text), RunOptions(store=str(tmp_path), engine="local"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    measured = {metric["name"]: metric["value"] for metric in outcome.metrics["read"]}
    assert set(measured) == names
    assert measured["rows"] == 24


def test_a_forced_stage_embeds_again(tmp_path: Path) -> None:
    text = STAGES.replace("LOSS", "{use: mse, of: [image, other]}").replace(
        "EVAL", "{use: reader, data: train, whole: image}"
    )
    calls: list[int] = []
    encode = Model.encode

    def counted(self: Model, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return encode(self, *args, **kwargs)

    Model.encode = counted  # type: ignore[method-assign]
    try:
        counts = []
        for force in ((), (), ("read",), ("feats",)):
            calls.clear()
            outcome = run_spec(load_text(text), RunOptions(store=str(tmp_path), engine="local", force=force))
            assert outcome.exit_code == 0
            counts.append(len(calls))
    finally:
        Model.encode = encode  # type: ignore[method-assign]
    assert counts == [2, 0, 1, 1]


def test_two_inputs_that_learn_under_one_name_are_refused() -> None:
    text = STAGES.replace("LOSS", "{use: uniformity, of: both}").replace(
        "EVAL", "{use: reader, data: train, model: init}"
    )
    spec = load_text(text, overrides=["encoders.both={use: twice, of: [color, caption]}"])
    scope = spec.scope("fit")
    with pytest.raises(ComponentError, match="learns words from two of its inputs"):
        Model.learn_states(scope, scope.roots(), scope.source)
    spec = load_text(text, overrides=["encoders.both={use: twice, of: [caption, caption]}"])
    scope = spec.scope("fit")
    assert Model.learn_states(scope, scope.roots(), scope.source)["encoders.both"]["words"]
