"""Inputs that people really have, each run as its README says; they lie beside the checkout, and not with everybody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmflow.spec import SpecError, load_spec

CASES = Path(__file__).parents[3] / "shared" / "cases-of-users"

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not CASES.is_dir(), reason="the cases of users lie beside the checkout of some only"),
]


@dataclass(frozen=True)
class Right:
    """What is right for a case: the exit code, and what is said on either stream."""

    code: int
    out: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    """What the one message says."""
    options: tuple[str, ...] = ("--local", "--workers", "0")


RIGHT = {
    "batchnorm_last_batch_of_one": Right(2, error=("spec.yaml:6:3: encoders.image", "drop_last: true")),
    "csv_first_line_blank": Right(0, ("retrieval on 8 rows of train",)),
    "csv_open_quote": Right(2, error=("train.csv, line 6", "never closed")),
    "folder_hidden": Right(0, ("zero on 8 rows of train", "0.500")),
    "folder_jfif": Right(0, ("retrieval on 8 rows of train",)),
    "folder_readme": Right(0, ("zero on 8 rows of train", "0.500")),
    "join_on_picture": Right(2, error=("`id: image`", "`by: id`")),
    "jsonl_lone_surrogate": Right(0, ("retrieval on 16 rows of train",)),
    "label_phantom_classes": Right(0, ("zero on 16 rows of train", "0.500")),
    "match_large_ints": Right(0, ("retrieval on 16 rows of train", "0.062")),
    "parquet_two_columns_one_name": Right(2, error=("train.parquet", "two columns named 'caption'")),
    "prefect_toml_broken": Right(2, error=("prefect.toml", "line 1"), options=()),
    "sound_cut_off": Right(2, error=("0.wav", "cut off after 0.50 s")),
    "table_repeated_id": Right(2, error=("`id: image`", "`id: false`")),
    "tar_bom_caption": Right(0, ("retrieval on 8 rows of train",)),
    "tar_concatenated": Right(0, ("retrieval on 16 rows of train",)),
    "tar_dots_in_names": Right(2, error=("sample 'scan' has 8 images", "`extension: last`")),
    "tar_glob_folders": Right(0, ("retrieval on 8 rows of train",)),
    "tar_same_keys_in_shards": Right(0, ("retrieval on 16 rows of train",)),
    "tar_sorted_by_extension": Right(0, ("retrieval on 8 rows of train",)),
    "tar_two_pictures": Right(0, ("retrieval on 8 rows of train",)),
    "video_rotated": Right(0, ("retrieval on 4 rows of train",)),
    "yaml_infinity": Right(2, error=("spec.yaml:10:30: train.epochs", "found .inf, expected a finite number")),
    "zero_shot_names_order": Right(0, ("named on 16 rows of train",)),
}


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.glob("*/") if path.is_dir()))
def test_a_case_does_what_its_readme_says(case: str, tmp_path: Path) -> None:
    right = RIGHT[case]
    shutil.copytree(CASES / case, tmp_path / case)
    done = subprocess.run(
        [sys.executable, "-m", "mmflow", "run", "spec.yaml", *right.options], cwd=tmp_path / case, text=True,
        capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == right.code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert all(word in done.stdout for word in right.out), done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == (right.code == 2), done.stderr
    assert all(word in errors[0] for word in right.error), errors


def first(case: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The first sample of a case's data."""
    monkeypatch.chdir(CASES / case)
    return dict(load_spec("spec.yaml").data["train"].open()[0])


def test_a_clip_stands_as_players_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = first("video_rotated", monkeypatch)["video"]
    assert clip.shape == (4, 64, 32, 3)
    assert clip[:, :8].mean() > clip[:, -8:].mean()


def test_of_two_images_the_one_with_the_whole_extension_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(CASES / "tar_two_pictures" / "s.tar") as tar:
        member = tar.extractfile("0.png")
        assert member is not None
        expected = np.asarray(Image.open(member).convert("RGB"))
    assert np.array_equal(first("tar_two_pictures", monkeypatch)["image"], expected)


def test_a_mark_of_byte_order_is_no_part_of_a_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first("tar_bom_caption", monkeypatch)["caption"] == "red square 0"


@pytest.mark.parametrize(
    "place", ["losses.align.temperature=.inf", "losses.align.weight=.nan", "train.optimizer={use: adamw, lr: .inf}"]
)
def test_no_number_is_infinite(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES / "yaml_infinity")
    with pytest.raises(SpecError, match="expected a finite number"):
        load_spec("spec.yaml", overrides=["train.epochs=1", place])


def test_names_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    shutil.copytree(CASES / "zero_shot_names_order", tmp_path / "it")
    command = [sys.executable, "-m", "mmflow", "run", "spec.yaml", "--local", "--workers", "0", "--json"]
    done = subprocess.run(command, cwd=tmp_path / "it", text=True, capture_output=True, check=True)
    plain, named = (json.loads(done.stdout)["metrics"][stage] for stage in ("plain", "named"))
    assert [one["value"] for one in plain] == [one["value"] for one in named]
