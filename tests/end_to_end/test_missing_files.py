"""A file that is missing anywhere in a table is told before the first step, with its row."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mmflow.flow.run import RunOptions, rehearse, run_spec
from mmflow.spec import Spec, SpecError, load_text

ROWS = 60


def spec(folder: Path, bad: str) -> Spec:
    return load_text(f"""\
mmflow: 1
name: missing
data:
  train:
    {{use: table, url: {folder / "rows.csv"}, bad: {bad}, columns: {{image: image, other: image, caption: caption}}}}
encoders:
  image: {{use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {{use: linear, dim: 8}}}}
  text: {{use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {{use: linear, dim: 8}}}}
losses: {{align: {{use: infonce, of: [image, text]}}}}
train: {{data: train, epochs: 1, batch_size: 20}}
""")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = ["image,other,caption"]
    for row in range(ROWS):
        Image.new("RGB", (16, 16), (row, 0, 0)).save(tmp_path / f"{row}.png")
        # Nothing reads the other images; all of them are missing.
        lines.append(f"{row}.png,other-{row}.png,words of row {row}")
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    return tmp_path


def test_the_row_is_told_before_the_run(folder: Path) -> None:
    rehearse([(spec(folder, "error"), ["train"])])
    (folder / "23.png").unlink()
    with pytest.raises(SpecError, match=r"row 24|line 25") as refused:
        rehearse([(spec(folder, "error"), ["train"])])
    assert "23.png" in str(refused.value)


def test_where_bad_samples_are_left_out_the_run_counts_it(folder: Path, tmp_path: Path) -> None:
    (folder / "23.png").unlink()
    ran = run_spec(spec(folder, "skip"), RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu"))
    assert ran.exit_code == 0, ran.outcome.notes
