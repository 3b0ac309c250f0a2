"""`mmflow new spec`: a spec for data at hand passes the check, and its training beats chance clearly."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from PIL import Image

from mmflow.flow.run import RunOptions, run_spec
from mmflow.plugin import ComponentError
from mmflow.plugin.registry import registry
from mmflow.scaffold.specs import spec_for
from mmflow.spec import load_text

COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "yellow": (220, 220, 30)}
ROWS = 120


def image(color: str, draw: np.random.Generator) -> Image.Image:
    pixels = draw.integers(0, 60, (40, 40, 3))
    x, y = draw.integers(2, 20, 2)
    pixels[y : y + 16, x : x + 16] = COLORS[color] + draw.integers(-20, 20, 3)
    return Image.fromarray(pixels.clip(0, 255).astype("uint8"))


def table_of_images(folder: Path, draw: np.random.Generator) -> Path:
    with (folder / "data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "text"])
        for number in range(ROWS):
            color = list(COLORS)[number % 4]
            image(color, draw).save(folder / f"{number}.png")
            rows.writerow([f"{number}.png", f"a {color} box on dark ground"])
    return folder / "data.csv"


def folders_of_classes(folder: Path, draw: np.random.Generator) -> Path:
    for number in range(ROWS):
        color = list(COLORS)[number % 4]
        (folder / color).mkdir(exist_ok=True)
        image(color, draw).save(folder / color / f"{number}.jpg")
    return folder


def lines_with_sounds(folder: Path, draw: np.random.Generator) -> Path:
    time = np.arange(4000) / 8000
    with (folder / "data.jsonl").open("w") as file:
        for number in range(ROWS):
            pitch = 300 * (number % 4 + 1) + draw.normal() * 10
            sound = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.05 * draw.normal(size=4000)
            soundfile.write(folder / f"{number}.wav", sound.astype("float32"), 8000)
            label = ["low", "middle", "high", "top"][number % 4]
            file.write(json.dumps({"audio": f"{number}.wav", "label": label}) + "\n")
    return folder / "data.jsonl"


def arrays_of_vectors(folder: Path, draw: np.random.Generator) -> Path:
    labels = draw.integers(0, 5, 400)
    shared = draw.normal(size=(5, 32))[labels] + 0.5 * draw.normal(size=(400, 32))
    sides = {name: (shared + 0.3 * draw.normal(size=shared.shape)).astype("float32") for name in ("image", "text")}
    np.savez(folder / "vectors.npz", **sides, label=labels)
    return folder / "vectors.npz"


def saved_data_set(folder: Path, draw: np.random.Generator) -> Path:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(COLORS))})
    columns = {
        "image": [image(list(COLORS)[number % 4], draw) for number in range(ROWS)],
        "label": [number % 4 for number in range(ROWS)],
    }
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(folder / "saved"))
    return folder / "saved"


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [table_of_images, folders_of_classes, lines_with_sounds, arrays_of_vectors, saved_data_set]
)
def test_its_training_beats_chance_clearly(make: object, tmp_path: Path) -> None:
    assert callable(make)
    data = make(tmp_path, np.random.default_rng(0))
    text = spec_for(str(data))
    outcome = run_spec(load_text(text), RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    measured = [
        metric for metrics in outcome.metrics.values() for metric in metrics
        if metric["name"].endswith(("accuracy", "_r1"))
    ]  # fmt: skip
    assert measured, outcome.metrics
    for metric in measured:
        assert metric["value"] > 1.9 * metric["chance"], metric


@pytest.mark.parametrize("make", [table_of_images, lines_with_sounds, arrays_of_vectors])
def test_components_that_its_comments_propose_can_be_written_so(make: Callable[..., Path], tmp_path: Path) -> None:
    text = spec_for(str(make(tmp_path, np.random.default_rng(0))))
    comments = [line.strip("# ") for line in text.splitlines() if line.strip().startswith("#")]
    proposed = re.findall(r"\{use: (\w+), ([^}]*)\}", " ".join(comments))
    if make is table_of_images:
        assert [name for name, _ in proposed] == ["timm", "sentence_transformers"]
    for name, fields in proposed:
        known = registry().get("encoder", name).model_fields
        named = re.findall(r"(\w+):", fields)
        assert set(named) <= set(known), (name, named)


def test_columns_get_the_names_of_what_they_hold(tmp_path: Path) -> None:
    text = spec_for(str(table_of_images(tmp_path, np.random.default_rng(0))))
    assert "columns: {image: file_name, caption: text}" in text
    assert "of: [image, caption]" in text
    assert text.startswith("# ")
    assert load_text(text).name == "data"


def test_data_without_anything_to_learn_from_are_refused(tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text("height,width\n1.5,2.5\n3.5,4.5\n")
    with pytest.raises(ComponentError, match=r"nothing to learn from.*height \(number\)"):
        spec_for(str(tmp_path / "numbers.csv"))
    with pytest.raises(ComponentError, match="no source reads"):
        spec_for(str(tmp_path / "absent.bin"))
