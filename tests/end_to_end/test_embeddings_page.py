"""docs/embeddings.md: its spec measures vectors in three kinds of files, and two sets of vectors are compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file
from sklearn.metrics.pairwise import cosine_similarity
from typer.testing import CliRunner

from mmflow.cli.app import app
from mmflow.flow.run import RunOptions, RunOutcome, run_members
from mmflow.spec import load_members

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "embeddings.md"
ROWS, CLASSES = 90, 3


def spec() -> str:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(text.splitlines()) - 1 <= 6, "beside the version, six lines"
    return text


def vectors(noise: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(CLASSES, 12))
    label = np.arange(ROWS) % CLASSES
    both = centers[label] + rng.normal(size=(ROWS, 12))
    image, text = (both + noise * rng.normal(size=both.shape) for _ in range(2))
    # Every fifth caption is that of the row before.
    number = np.arange(ROWS) - (np.arange(ROWS) % 5 == 4)
    return {
        "image": image.astype(np.float32), "text": text.astype(np.float32), "label": label,
        "caption": np.array([f"caption {n}" for n in number]), "id": np.array([f"row {n}" for n in range(ROWS)]),
        "centers": centers.astype(np.float32),
    }  # fmt: skip


def run(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> RunOutcome:
    monkeypatch.chdir(folder)
    options = RunOptions(store=str(folder / "store"), engine="local", device="cpu")
    outcome = run_members(load_members("vectors.yaml", overrides, text=text), options)
    assert outcome.exit_code == 0, outcome.outcome.notes
    return outcome


def values(outcome: RunOutcome, stage: str) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in outcome.metrics[stage]}


@pytest.mark.parametrize("form", ["npz", "parquet", "safetensors"])
def test_the_spec_of_the_page_measures_vectors(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = vectors(noise=1.0)
    centers = columns.pop("centers")
    np.savez(tmp_path / "classes.npz", vector=centers)
    text = spec()
    if form == "npz":
        np.savez(tmp_path / "clip.npz", **columns)
    elif form == "parquet":
        pq.write_table(pa.table({name: column.tolist() for name, column in columns.items()}), tmp_path / "clip.parquet")
        text = text.replace("{use: arrays, url: clip.npz}", "{use: table, url: clip.parquet}")
    else:
        save_file({name: columns[name] for name in ("image", "text", "label")}, tmp_path / "clip.safetensors")
        text = text.replace("clip.npz", "clip.safetensors").replace("match: caption", "match: []")
    outcome = run(tmp_path, text, monkeypatch)
    assert list(outcome.metrics) == ["retrieval", "zero_shot", "probe", "geometry"]
    image, caption, label = columns["image"], columns["caption"], columns["label"]
    right = np.eye(ROWS, dtype=bool) if form == "safetensors" else caption[:, None] == caption[None]
    first = cosine_similarity(image, columns["text"]).argmax(1)
    assert values(outcome, "retrieval")["image_to_text_r1"] == pytest.approx(right[np.arange(ROWS), first].mean())
    classes = cosine_similarity(image, centers).argmax(1)
    assert values(outcome, "zero_shot")["top1_accuracy"] == pytest.approx((classes == label).mean())
    assert values(outcome, "probe")["accuracy"] > 0.5
    alignment = (unit(image) - unit(columns["text"])) ** 2
    assert values(outcome, "geometry")["alignment"] == pytest.approx(alignment.sum(1).mean(), rel=1e-5)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_two_sets_of_vectors_are_compared_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "classes.npz", vector=vectors(0)["centers"])
    runs = []
    for name, noise in (("good", 0.3), ("poor", 2.0)):
        columns = vectors(noise)
        del columns["centers"]
        np.savez(tmp_path / f"{name}.npz", **columns)
        runs.append(run(tmp_path, spec().replace("clip.npz", f"{name}.npz"), monkeypatch, f"name={name}"))
    ids = [outcome.outcome.run_id for outcome in runs]
    done = CliRunner().invoke(app, ["compare", *ids, "--store", str(tmp_path / "store"), "--format", "json"])
    assert done.exit_code == 0, done.output
    rows = {(row["metric"], row["members"]): row for row in json.loads(done.stdout)["table"]}
    recall = rows["image_to_text_r1", "poor"]
    assert (recall["verdict"], recall["items"]) == ("worse", ROWS)
    assert recall["interval"][1] < 0


def test_other_numbers_of_class_vectors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = vectors(1.0)
    np.savez(tmp_path / "classes.npz", vector=columns.pop("centers")[:2])
    np.savez(tmp_path / "clip.npz", **columns)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(spec())
    done = CliRunner().invoke(app, ["run", "s.yaml", "--local", "-q", "--device", "cpu"])
    assert "class.vector has 2 rows, and there are 3 classes" in done.output
