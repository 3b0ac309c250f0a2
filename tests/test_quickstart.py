"""The quickstart learns: on less data and with smaller encoders, its retrieval and zero-shot are far over chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.spec import load_spec

pytestmark = pytest.mark.slow

SPEC = Path(__file__).parents[1] / "specs" / "quickstart.yaml"
SMALLER = [
    "data.train.size=1600", "data.train.objects=[1, 1]", "data.test.size=200", "data.test.objects=[1, 1]",
    "encoders.image.width=64", "encoders.image.depth=2", "encoders.image.patch=12",
    "encoders.text.width=64", "encoders.text.depth=1",
    "train.epochs=10", "train.batch_size=64", "train.optimizer.lr=2e-3",
]  # fmt: skip


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> RunOutcome:
    store = tmp_path_factory.mktemp("store")
    found = run_spec(load_spec(str(SPEC), SMALLER), RunOptions(store=str(store), engine="local", device="cpu"))
    assert found.exit_code == 0, found.outcome.notes
    return found


def measured(outcome: RunOutcome, stage: str, metric: str) -> tuple[float, float]:
    found = next(m for m in outcome.metrics[stage] if m["name"] == metric)
    return found["value"], found["chance"]


@pytest.mark.parametrize(
    ("stage", "metric"),
    [
        ("retrieval", "image_to_text_r1"),
        ("retrieval", "text_to_image_r1"),
        ("zero_shot", "top1_accuracy"),
        ("probe", "accuracy"),
    ],
)
def test_metrics_are_far_over_chance(outcome: RunOutcome, stage: str, metric: str):
    value, chance = measured(outcome, stage, metric)
    assert 0 < chance < 0.1
    assert value > 4 * chance


def test_matched_pairs_lie_closer_than_others(outcome: RunOutcome):
    geometry = {metric["name"]: metric["value"] for metric in outcome.metrics["geometry"]}
    assert geometry["pair_cosine"] > geometry["other_cosine"] + 0.5


def test_the_report_shows_every_stage_with_its_metrics(outcome: RunOutcome):
    page = Path(str(outcome.report)).read_text(encoding="utf-8")
    for stage in ("train", "retrieval", "zero_shot", "probe", "geometry"):
        assert stage in page
    assert "data:image/png;base64," in page
    assert "R@1" in page
    # It opens from disk: nothing is loaded from anywhere.
    assert 'src="http' not in page
    assert "<link" not in page
