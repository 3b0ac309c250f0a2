"""Files of more than 256 MB are known by size and time, and every reader of results is told so."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from mmflow_sources.access.files import SMALL_BYTES
from mmflow_sources.arrays import Arrays
from mmflow_sources.folder import FolderSource
from mmflow_sources.split import Split
from mmflow_sources.table import Table
from mmflow_sources.webdataset import WebDataset
from PIL import Image

from mmflow.cli.app import app
from mmflow.flow.report.summary import left_out_lines

SAID = "known by size and time, not by content: a change that keeps both is not seen"


def sparse(path: Path, size: int = SMALL_BYTES) -> Path:
    """A file of that size which takes no room on the disk."""
    with path.open("ab") as file:
        file.truncate(size)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def changed_silently(file: Path) -> None:
    """Another byte, the same size and time."""
    before = file.stat()
    data = bytearray(file.read_bytes()[:64])
    data[-1] ^= 1
    with file.open("r+b") as opened:
        opened.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_small_files_are_known_by_content_and_nothing_is_said(pictures: Path) -> None:
    first = FolderSource(url=str(pictures)).fingerprint()
    assert not FolderSource(url=str(pictures)).caveats()
    (pictures / "0.png").write_bytes((pictures / "1.png").read_bytes())
    assert FolderSource(url=str(pictures)).fingerprint() != first


def test_a_large_folder_says_that_it_is_known_by_its_listing(pictures: Path) -> None:
    sparse(pictures / "2.png")
    source = FolderSource(url=str(pictures))
    assert source.caveats() == (f"3 files of 268 MB {SAID}",)
    before = source.fingerprint()
    changed_silently(pictures / "0.png")
    assert FolderSource(url=str(pictures)).fingerprint() == before
    os.utime(pictures / "0.png", (1, 1))
    assert FolderSource(url=str(pictures)).fingerprint() != before


def test_sources_of_sources_pass_it_on(pictures: Path) -> None:
    sparse(pictures / "2.png")
    inner = FolderSource(url=str(pictures))
    assert list(Split(of=inner, parts={"a": 0.5, "b": 0.5}, part="a").caveats()) == [f"3 files of 268 MB {SAID}"]


def test_each_kind_of_file_is_counted(tmp_path: Path, pictures: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(2))
    assert Arrays(url=str(sparse(tmp_path / "x.npy", SMALL_BYTES + 1))).caveats() == (f"1 file of 268 MB {SAID}",)
    shards = tuple(str(sparse(tmp_path / f"{number}.tar")) for number in range(2))
    assert WebDataset(url=shards, stream=True).caveats() == (f"2 files of 537 MB {SAID}",)
    sparse(pictures / "2.png")
    (tmp_path / "t.csv").write_text("file\npictures/0.png\npictures/2.png\n")
    table = Table.model_validate({"url": str(tmp_path / "t.csv"), "columns": {"image": "file"}})
    assert table.caveats() == (f"2 files of 268 MB {SAID}",)


def test_check_says_it(tmp_path: Path, pictures: Path) -> None:
    from typer.testing import CliRunner

    sparse(pictures / "2.png")
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"mmflow: 1\nname: large\ndata: {{d: {{use: folder, url: {pictures}}}}}\n"
        "encoders: {image: {use: vit, of: image, size: 16}}\neval: {g: {use: geometry, data: d, of: image}}\n"
    )
    assert f"  d: 3 files of 268 MB {SAID}\n" in CliRunner().invoke(app, ["check", str(spec)]).stdout


def test_the_results_say_it(pictures: Path) -> None:
    from mmflow.flow.report.collect import EntryReport, RunReport

    entry = EntryReport("d", "folder", 3, {}, [], {}, [], [f"3 files of 268 MB {SAID}"])
    report = RunReport("r", "r", "completed", "", None, 0, "local", [], [], "", [entry])
    assert left_out_lines(report) == [f"d: 3 files of 268 MB {SAID}"]
