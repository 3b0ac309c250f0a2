"""An evaluator gets the output that was asked for, or refuses it by name before anything has been run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mmflow.flow.run import RunOptions, rehearse, run_spec
from mmflow.flow.store import RunStore
from mmflow.plugin import Encoder, Encoding, EvaluationResult, Evaluator, Metric, Score, TensorType, Tokens
from mmflow.spec import SpecError, load_text

SPEC = """\
mmflow: 1
name: forms
data:
  train: {use: shapes, size: 24, pixels: 16, objects: 1}
  test: {use: shapes, size: 12, pixels: 16, split: test, objects: 1}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 2, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  hard: {use: same, weights: text, of: hard_captions}
eval:
  e: {use: EVALUATION}
"""

SEEN: dict[str, Any] = {}


def said(evaluation: str, parts: str = "") -> list[str]:
    """What the check or the rehearsal says of an evaluation."""
    try:
        spec = load_text(SPEC.replace("eval:", f"{parts}eval:").replace("EVALUATION", evaluation))
        rehearse([(spec, list(spec.stages))])
    except SpecError as refused:
        return [str(problem) for problem in refused.problems]
    return []


PROBE = "labels: label, data: train, test: test"
REFUSED = {
    f"linear_probe, of: image.tokens, {PROBE}": ["linear_probe reads one vector a row", "`image.tokens`, a sequence",
                                                 "write image or image.features"],
    "clustering, of: image.grid, labels: label, data: test": ["reads one vector a row", "`image.grid`, a grid"],
    f"knn, of: image.layers.1, {PROBE}": ["knn (score cosine)", "`image.layers.1`, a sequence", "`score: maxsim`"],
    "spectrum, of: text.layers.1, data: test": ["spectrum reads one vector", "`text.layers.1`"],
    f"knn, of: image.grid, score: maxsim, {PROBE}": ["knn (score maxsim) reads a sequence", "write image.tokens"],
    "retrieval, of: [image, text.tokens], data: test": ["retrieval (score cosine)", "`text.tokens`, a sequence"],
    "grid_probe, of: image.tokens, mask: masks, data: train, test: test": ["grid_probe reads a grid", "image.grid"],
    "retrieval, of: [image, text.features], data: test": ["cannot compare image [2, 8] and text.features [2, 16]"],
    "geometry, of: [image.features, text], data: test": ["image.features has 16 dimensions and text has 8"],
    "multiple_choice, of: [image.features, hard], data: test": ["cannot compare image.features [2, 16] and hard"],
    "pairwise_retrieval, of: [image, hard, text.features], data: test": ["cannot compare image [2, 8] and text"],
    "knn, of: hard, labels: label, data: test": ["hard has 4 of the axis candidate, which knn does not take"],
}  # fmt: skip
"""Line 11 of the spec, and what its message holds."""


@pytest.mark.parametrize("evaluation", REFUSED)
def test_an_output_that_cannot_be_read_is_refused_at_its_line(evaluation: str) -> None:
    (message,) = said(evaluation)
    assert message.startswith("<text>:11:"), message
    assert all(words in message for words in REFUSED[evaluation]), message


@pytest.mark.parametrize(
    "evaluation",
    [
        f"linear_probe, of: [image, image.features], {PROBE}",
        f"knn, of: image.layers.1, score: maxsim, {PROBE}",
        "retrieval, of: [image.tokens, text.tokens], score: maxsim, data: test",
        "retrieval, of: [image, hard], data: test",
        "geometry, of: [image.features, text.features], data: test",
        "multiple_choice, of: [image, hard], data: test",
    ],
)
def test_outputs_of_the_right_form_are_taken(evaluation: str) -> None:
    assert said(evaluation) == []


class Look(Evaluator, name="look_at_outputs"):
    """Keeps what it was given, and encodes two texts itself."""

    score: Score | None = None

    def evaluate(self, *of: Encoding, model: Any) -> EvaluationResult:
        SEEN["of"] = of
        SEEN["own"] = model.encode(self.of[-1], ["a red circle", "a blue square"])
        return EvaluationResult([Metric("rows", len(of[0]))])


class LookAtGrids(Evaluator, name="look_at_grids"):
    """Keeps the grids that it was given."""

    needs: ClassVar[tuple[str, ...]] = ("grid",)

    def evaluate(self, *of: Encoding) -> EvaluationResult:
        SEEN["of"] = of
        return EvaluationResult([Metric("rows", len(of[0]))])


def measured(tmp_path: Path, evaluation: str) -> tuple[Encoding, ...]:
    SEEN.clear()
    spec = load_text(SPEC.replace("EVALUATION", evaluation))
    outcome = run_spec(spec, RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    assert RunStore(str(tmp_path / "store")).has(outcome.plan["e"].key)
    return SEEN["of"]


def test_the_output_that_is_named_comes_in_the_place_of_the_one_that_is_read(
    tmp_path: Path, register: Callable[..., None]
) -> None:
    register(Look, LookAtGrids)
    vectors, features = measured(tmp_path, "look_at_outputs, of: [image, text.features], data: test")
    assert (list(vectors.outputs), list(features.outputs)) == (["pooled"], ["pooled"])
    assert (vectors.pooled.shape, features.pooled.shape) == ((12, 8), (12, 16))
    assert SEEN["own"].pooled.shape == (2, 16), "values of its own come out as the reference says"
    tokens, last = measured(tmp_path, "look_at_outputs, of: [image.tokens, text.layers.1], score: maxsim, data: test")
    assert isinstance(tokens.tokens, Tokens)
    assert tokens.tokens.values.shape == (12, 4, 16)
    assert last.tokens.values.shape[-1] == SEEN["own"].tokens.values.shape[-1] == 16
    (grids,) = measured(tmp_path, "look_at_grids, of: image, data: test")
    (named,) = measured(tmp_path, "look_at_grids, of: image.grid, data: test")
    assert grids["grid"].shape == (12, 2, 2, 16)
    assert torch.equal(grids["grid"], named["grid"])
    # The tokens of a grid are those of the sequence, and no vector is either's stand-in.
    assert torch.allclose(grids["grid"].flatten(1, 2), tokens.tokens.values)


class Taps(Encoder, name="taps_of_tests"):
    """Gives a mask of its image beside the vector, when asked: nothing declared says what form that has."""

    def taps(self) -> tuple[str, ...]:
        return ("inner", "deep")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": TensorType("vector", inputs[0].axes, (3,))}

    def apply(self, x: Tensor, taps: tuple[str, ...] = ()) -> dict[str, Tensor]:
        known = {"inner": x.mean(1), "deep": x.mean((2, 3))}
        return {"pooled": x.mean((2, 3)), **{name: known[name] for name in taps}}


def test_a_tap_of_an_unknown_form_is_refused_by_its_values_before_the_run(
    tmp_path: Path, register: Callable[..., None]
) -> None:
    register(Taps, Look)
    spec = SPEC.replace("encoders:\n", "encoders:\n  odd: {use: taps_of_tests, of: fields.image}\n")
    probe = f"linear_probe, of: odd.inner, {PROBE}"
    with pytest.raises(SpecError) as refused:
        rehearse([(load_text(spec.replace("EVALUATION", probe)), ["e"])])
    assert "linear_probe reads one vector a row: found `odd.inner`, an array of 2 axes a row ([2, 16, 16]" in str(
        refused.value
    )
    good = load_text(spec.replace("EVALUATION", "spectrum, of: [odd, odd.deep], data: test"))
    assert run_spec(good, RunOptions(store=str(tmp_path), engine="local", device="cpu")).exit_code == 0


class Bilinear(Score, name="bilinear_of_tests"):
    """a W b, with weights for vectors of eight numbers."""

    def build(self) -> nn.Module:
        return BilinearModule()


class BilinearModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(8))

    def blocks(self, a: Encoding, b: Encoding) -> Tensor:
        return a.pooled @ self.weight @ b.pooled.T


@pytest.mark.parametrize("side", ["text.features", "hard.features"])
def test_a_score_with_weights_is_rehearsed_too_also_over_groups(side: str, register: Callable[..., None]) -> None:
    register(Bilinear)
    parts = "parts: {judge: {use: bilinear_of_tests}}\n"
    assert said("retrieval, of: [image, text], score: parts.judge, data: test", parts) == []
    (message,) = said(f"retrieval, of: [image, {side}], score: parts.judge, data: test", parts)
    assert f"retrieval cannot compare image [2, 8] and {side} [2," in message
    assert message.startswith("<text>:12:")


def test_encoders_of_another_stage_are_rehearsed_and_give_values_of_the_evaluators_own(tmp_path: Path) -> None:
    spec = SPEC.replace("eval:", "losses: {l: {use: infonce, of: [image, text]}}\n"
                                 "train: {data: train, steps: 1, batch_size: 8}\neval:")  # fmt: skip
    wrong = spec.replace("EVALUATION", "retrieval, of: [train.image.features, text], data: test")
    with pytest.raises(SpecError) as refused:
        rehearse([(load_text(wrong), ["e"])])
    assert "cannot compare image.features [2, 16] and text [2, 8]" in str(refused.value)
    good = load_text(spec.replace("EVALUATION", "zero_shot, of: [train.image, train.text], labels: label, data: test"))
    outcome = run_spec(good, RunOptions(store=str(tmp_path), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
