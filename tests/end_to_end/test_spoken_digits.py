"""Three modalities of real data: recordings, images and words of digits meet in one space, far over chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.spec import load_spec

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT.parent / "shared" / "data" / "fsdd" / "recordings"
SHORTER = [f"vars.recordings={RECORDINGS}", "train.epochs=null", "train.steps=100"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings of spoken digits are not here"),
]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> RunOutcome:
    pytest.importorskip("soundfile")
    spec = load_spec(str(ROOT / "specs" / "spoken_digits.yaml"), SHORTER)
    store = tmp_path_factory.mktemp("store")
    found = run_spec(spec, RunOptions(store=str(store), engine="local", device="cpu"))
    assert found.exit_code == 0, found.outcome.notes
    return found


@pytest.mark.parametrize(
    ("stage", "metric", "times"),
    [
        ("sound_to_word", "top1_accuracy", 7),
        ("image_to_word", "top1_accuracy", 7),
        ("sound_and_image", "sound_to_image_r1", 6),
        ("sound_and_image", "image_to_sound_r1", 6),
        ("speaker", "accuracy", 2),
    ],
)
def test_each_pair_of_modalities_meets(outcome: RunOutcome, stage: str, metric: str, times: float) -> None:
    (found,) = (m for m in outcome.metrics[stage] if m["name"] == metric)
    assert found["value"] > times * found["chance"]


def test_the_official_takes_are_the_test_split_and_every_pair_is_of_one_digit() -> None:
    spec = load_spec(str(ROOT / "specs" / "spoken_digits.yaml"), SHORTER)
    readers = {name: spec.data[name].open() for name in ("train", "test")}
    assert (len(readers["train"]), len(readers["test"])) == (2700, 300)
    ids = {name: [reader.id(n) for n in range(len(reader))] for name, reader in readers.items()}
    assert all(int(id.rpartition("_")[2]) < 5 for id in ids["test"])
    assert not set(ids["train"]) & set(ids["test"])
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    for index in range(0, 300, 7):
        sample = readers["test"].read(index, ("label", "caption"))
        assert names[sample["label"]] in sample["caption"]
        assert readers["test"].id(index).startswith(str(sample["label"]))
