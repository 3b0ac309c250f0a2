"""The file of samples left out lists each once: after a killed run, in other processes, where it was removed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from mmflow_sources.table import Table

from mmflow.data import ColumnRequest, scan
from mmflow.data.quarantine import quarantine
from mmflow.plugin import SampleError
from mmflow.plugin.targets import Target

pytestmark = pytest.mark.process


def listed(url: str) -> list[tuple[str, str]]:
    with fsspec.open(url, "r") as file:
        return [(row["source"], row["id"]) for row in map(json.loads, file.read().splitlines())]


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_each_sample_once(tmp_path: Path, place: str) -> None:
    url = str(tmp_path / "new/folder/bad.jsonl") if place == "disk" else f"memory://{tmp_path.name}/bad.jsonl"
    for source, id in [("a", "1"), ("a", "2"), ("a", "1"), ("b", "1"), ("b", "1")]:
        quarantine(url, source, id, "why")
    assert listed(url) == [("a", "1"), ("a", "2"), ("b", "1")]


def test_other_processes_and_removal(tmp_path: Path) -> None:
    url = str(tmp_path / "bad.jsonl")
    quarantine(url, "a", "1", "why")
    code = f"from mmflow.data.quarantine import quarantine\nfor id in '123': quarantine({url!r}, 'a', id, 'why')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    for id in "1234":
        quarantine(url, "a", id, "why")
    assert listed(url) == [("a", id) for id in "1234"]
    Path(url).unlink()
    quarantine(url, "a", "1", "why")
    assert listed(url) == [("a", "1")]


def test_half_a_line_of_a_killed_run(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"source": "a", "id": "1", "reason": "why"}\n{"source": "a", "id"')
    quarantine(str(path), "a", "1", "why")
    quarantine(str(path), "a", "2", "why")
    assert path.read_text().splitlines()[2:] == ['{"source": "a", "id": "2", "reason": "why"}']


def test_a_file_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image\nnone.png\n")
    source = Table.model_validate({"url": str(tmp_path / "t.csv"), "bad": "quarantine", "quarantine": str(tmp_path)})
    with pytest.raises(SampleError, match=f"`quarantine: {tmp_path}` cannot be written"):
        list(scan(source, {}, [ColumnRequest("image", Target("fields", "image"))], batch_size=2))
