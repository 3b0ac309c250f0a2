"""The quickstart's job on other data: real handwritten digits, and tables of images that a user wrote."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from textwrap import dedent
from uuid import uuid4

import fsspec
import pytest
from PIL import Image

from mmflow.data import sample_fields
from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.plugin.kinds import Source
from mmflow.spec import load_text

pytestmark = pytest.mark.slow

MODEL = """
encoders:
  image: {use: vit, of: image, size: SIZE, patch: 8, width: 64, depth: 2, heads: 4, head: {use: linear, dim: 64}}
  text: {use: text_transformer, of: caption, width: 64, depth: 1, length: 24, head: {use: linear, dim: 64}}
losses:
  align: {use: infonce, of: [image, text], temperature: {use: learned, init: 0.07, min: 0.01}}
train:
  data: train
  epochs: EPOCHS
  batch_size: 64
  optimizer: {use: adamw, lr: 1e-3}
  schedule: {use: cosine, warmup: 0.1}
eval:
  retrieval: {use: retrieval, data: test, of: [image, text], at: [1, 5]}
"""


def run(text: str, store: Path) -> RunOutcome:
    outcome = run_spec(load_text(dedent(text)), RunOptions(store=str(store), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    return outcome


def metric(outcome: RunOutcome, stage: str, name: str) -> tuple[float, float]:
    """A metric of a stage beside chance."""
    (found,) = (m for m in outcome.metrics[stage] if m["name"] == name)
    return found["value"], found["chance"]


def test_digits_are_read_after_a_few_epochs(tmp_path: Path) -> None:
    outcome = run(
        "mmflow: 1\nname: digits\n"
        "data: {train: {use: digits, split: train, pixels: 24}, test: {use: digits, split: test, pixels: 24}}"
        + MODEL.replace("SIZE", "24").replace("EPOCHS", "10")
        + '  zero_shot: {use: zero_shot, data: test, of: [image, text], labels: label, prompts: ["a {}"]}\n',
        tmp_path,
    )
    accuracy, chance = metric(outcome, "zero_shot", "top1_accuracy")
    assert chance == pytest.approx(0.1, abs=0.02)
    assert accuracy > 5 * chance
    assert outcome.report is not None
    assert Path(outcome.report).read_text().startswith("<!")


def write_table(url: str, split: str, rows: int) -> None:
    """A CSV of captions and paths of PNG files, with the images, on any filesystem."""
    source = Source.accept({"use": "shapes", "split": split, "size": rows, "pixels": 24, "objects": [1, 1]})
    samples = sample_fields(source, [source.open().id(index) for index in range(rows)], ["image", "caption"])
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["file", "caption"])
    for number, sample in enumerate(samples.values()):
        image = io.BytesIO()
        Image.fromarray(sample["image"]).save(image, "PNG")
        with fsspec.open(f"{url}/images/{split}-{number}.png", "wb", auto_mkdir=True) as file:
            file.write(image.getvalue())  # type: ignore[union-attr]
        writer.writerow([f"images/{split}-{number}.png", sample["caption"]])
    with fsspec.open(f"{url}/{split}.csv", "w", auto_mkdir=True) as file:
        file.write(table.getvalue())  # type: ignore[union-attr]


@pytest.mark.parametrize("filesystem", ["memory", "local"])
def test_a_table_of_images_and_captions_trains(filesystem: str, tmp_path: Path) -> None:
    url = f"memory://{uuid4().hex}" if filesystem == "memory" else str(tmp_path / "photos")
    write_table(url, "train", 1024)
    write_table(url, "test", 100)
    outcome = run(
        f"""mmflow: 1
name: photos
data:
  train: {{use: table, url: "{url}/train.csv", columns: {{image: file, caption: caption}}}}
  test: {{use: table, url: "{url}/test.csv", columns: {{image: file, caption: caption}}}}
"""
        + MODEL.replace("SIZE", "24").replace("EPOCHS", "14"),
        tmp_path / "store",
    )
    recall, chance = metric(outcome, "retrieval", "image_to_text_r5")
    assert chance == pytest.approx(0.05)
    assert recall > 2 * chance
