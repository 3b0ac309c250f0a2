"""Entries that no stage uses are told at their line, and the spec can be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.evaluate.trial import StageCheck
from mmflow.spec import load_spec, load_text

SPEC = """\
mmflow: 1
data: {one: {use: shapes, size: 24, pixels: 16}}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 8, depth: 1, heads: 2}
  idle: {use: vit, of: image}
memories:
  queue: {use: queue, of: image, size: 8}
losses:
  used: {use: uniformity, of: image}
  left: {use: infonce, of: [image, idle], negatives: queue}
stages:
  base: {use: train, data: one, steps: 2, batch_size: 8, losses: [used]}
"""


def test_what_no_stage_uses_is_told() -> None:
    said = [str(note) for note in load_text(SPEC).notes]
    assert [one.partition(" no stage")[2].partition(";")[0] for one in said] == [
        " uses encoders.idle", " uses memories.queue", " uses losses.left",
    ]  # fmt: skip
    assert [one.split(":")[1] for one in said] == ["5", "7", "10"]


def test_what_is_used_is_not_told() -> None:
    assert load_text(SPEC.replace(", losses: [used]", "")).notes == ()


def test_what_a_shared_spec_has_for_others_is_not_told(tmp_path: Path) -> None:
    shared, own = SPEC.split("stages:\n")
    (tmp_path / "shared.yaml").write_text(shared)
    (tmp_path / "own.yaml").write_text(f"mmflow: 1\nextends: shared.yaml\nstages:\n{own}")
    assert load_spec(tmp_path / "own.yaml").notes == ()


REPEAT = """\
mmflow: 1
data: {one: {use: shapes, size: 24, pixels: 16}}
encoders: {image: {use: vit, of: image, size: 16, patch: 8, width: 8, depth: 1, heads: 2}}
losses: {it: {use: uniformity, of: image}}
stages:
  base: {use: train, data: one, steps: 2, batch_size: 8}
  round:
    use: repeat
    until: {metric: score.METRIC, at_most: 2}
    carry: {model: base}
    stages:
      fit: {use: train, start: carry.model, data: one, steps: 1, batch_size: 8}
      score: {use: knn, data: one, of: image, labels: shape, k: 3, model: fit}
    next: {model: fit}
"""


@pytest.mark.parametrize(
    ("metric", "said"), [("acuracy", "measures no `acuracy`; did you mean"), ("rank", "no `rank`")]
)
def test_a_metric_that_ends_a_repetition_must_be_measured(metric: str, said: str) -> None:
    problems = StageCheck().of(load_text(REPEAT.replace("METRIC", metric))).problems
    assert said in str(problems[0])
    assert str(problems[0]).startswith("<text>:13:")


def test_a_metric_that_is_measured_ends_it() -> None:
    assert StageCheck().of(load_text(REPEAT.replace("METRIC", "accuracy"))).problems == []
