"""The quickstart with three lines changed for one's own 240 pictures: it runs, and says what keeps it from learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.spec import SpecError, load_text

pytestmark = pytest.mark.slow

QUICKSTART = (Path(__file__).parents[2] / "specs" / "quickstart.yaml").read_text()
COLORS = {"red": (200, 40, 40), "blue": (40, 60, 200)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of colored things, of any size, in folders by class: 200 to learn from and 40 to be tested on."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, count in (("train", 50), ("test", 10)):
        for color, rgb in COLORS.items():
            for shape in ("circle", "square"):
                folder = root / split / f"{color} {shape}"
                folder.mkdir(parents=True)
                for number in range(count):
                    width, height, size = (int(n) for n in rng.integers((60, 60, 20), (100, 100, 40)))
                    image = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(150, 256, 3)))
                    x, y = int(rng.integers(0, width - size)), int(rng.integers(0, height - size))
                    draw = ImageDraw.Draw(image)
                    (draw.ellipse if shape == "circle" else draw.rectangle)((x, y, x + size, y + size), fill=rgb)
                    image.save(folder / f"{number}.jpg")
    return root


def changed(pictures: Path, *, view: bool = True, **more: str) -> str:
    """The quickstart's text with other lines for the data, and further replacements."""
    lines = []
    for line in QUICKSTART.splitlines():
        name = line.strip().partition(":")[0]
        if "use: shapes" in line:
            line = f"  {name}: {{use: folder, url: {pictures}/{name}}}"
        if line == "encoders:" and view:
            lines.append("views: {caption: {of: label, apply: [class_name]}}")
        lines.append(line)
    text = "\n".join(lines)
    for old, new in more.items():
        assert f"{old}:" in text
        text = "\n".join(f"  {old}: {new}" if one.strip().startswith(f"{old}:") else one for one in text.splitlines())
    return text


SMALLER = [
    "encoders.image.patch=12", "encoders.image.width=48", "encoders.image.depth=1", "encoders.text.width=48",
    "encoders.image.head.dim=32", "encoders.text.head.dim=32",
]  # fmt: skip


def run(text: str, store: Path) -> RunOutcome:
    spec = load_text(text, overrides=SMALLER)
    outcome = run_spec(spec, RunOptions(store=str(store), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    return outcome


def told(outcome: RunOutcome, words: str) -> list[str]:
    return [stage for stage, remarks in outcome.remarks.items() for remark in remarks if words in remark]


def test_pictures_without_captions_are_told_how_their_class_makes_one(pictures: Path) -> None:
    with pytest.raises(SpecError) as refused:
        load_text(changed(pictures, view=False))
    (problem,) = refused.value.problems
    assert problem.message == "there is no `caption` here"
    assert problem.hint == "`views: {caption: {of: label, apply: [class_name]}}` makes it of `label`"


def test_three_lines_make_a_run_that_says_what_keeps_it_from_learning(pictures: Path, tmp_path: Path) -> None:
    outcome = run(changed(pictures), tmp_path)
    assert told(outcome, "trained for 36 steps of 64 samples only") == ["train"]
    assert told(outcome, "others of equal label in its batch of 64 (4 different in 200 rows)") == ["train"]
    assert told(outcome, "`match: label` counts those as right") == ["retrieval"]
    # What it says of itself beside: chance is that of four classes.
    zero_shot = {metric["name"]: metric for metric in outcome.metrics["zero_shot"]}
    assert zero_shot["top1_accuracy"]["chance"] == 0.25


def test_a_run_that_follows_the_remarks_has_none_of_them(pictures: Path, tmp_path: Path) -> None:
    learned = "{use: learned, init: 0.07, min: 0.01}"
    text = changed(
        pictures,
        align=f"{{use: supcon, of: [image, text], labels: label, temperature: {learned}}}",
        retrieval="{use: retrieval, data: test, of: [image, text], match: label, at: [1, 5]}",
        epochs="30",
    )
    outcome = run(text, tmp_path)
    for words in ("too few to learn", "others of equal", "the very score of the right one", "cannot be told from"):
        assert told(outcome, words) == [], outcome.remarks
    value = next(m for m in outcome.metrics["zero_shot"] if m["name"] == "top1_accuracy")
    assert value["low"] > value["chance"]
