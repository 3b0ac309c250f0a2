"""Small files cannot unfold to large ones: archives, arrays, Parquet, sounds and texts have bounds."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmflow_sources.access.files import Folder
from mmflow_sources.arrays import Arrays
from mmflow_sources.decoding.sounds import decode_sound
from mmflow_sources.folder import FolderSource
from mmflow_sources.table import Table
from mmflow_sources.webdataset import WebDataset
from PIL import Image

from mmflow.plugin import ComponentError, SampleError

pytestmark = pytest.mark.slow


def png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("extension", ["txt", "json", "cls"])
def test_a_text_in_an_archive_is_bounded(tmp_path: Path, extension: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", png())
            text = b"[" * 50_000_000 if number == 1 else b'{"k": 1}'
            archive.writestr(f"{number}.{extension}", text)
    columns = {"image": "image", "text": {"txt": "caption", "json": "k", "cls": "label"}[extension]}
    if extension == "cls":
        columns["text"] = {"column": "label", "modality": "text"}  # type: ignore[assignment]
    reader = FolderSource.model_validate({"url": f"zip://::{tmp_path}/a.zip", "columns": columns}).open()
    assert reader[0]["text"]
    with pytest.raises(SampleError, match="holds 50000000 bytes, more than `max_text`"):
        reader[1]


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_in_a_tar_is_bounded(tmp_path: Path, stream: bool) -> None:
    import tarfile

    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, size in (("0.txt", 10), ("1.txt", 2**20 + 1)):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(b"x" * size))
    source = WebDataset(url=(str(tmp_path / "s.tar"),), stream=stream, bad="skip")
    reader = source.open()
    with pytest.raises(SampleError, match="more than `max_text`"):
        reader.decode(*list(reader.shard(0, ("caption",)))[1], ("caption",)) if stream else reader[1]


@pytest.mark.parametrize(("rate", "channels"), [(2**31 - 1, 1), (1_000_000, 2), (0, 1)])
def test_a_sound_of_an_absurd_rate_is_refused(rate: int, channels: int) -> None:
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    soundfile.write(out, np.zeros((1000, channels), np.float32), 16_000, format="WAV", subtype="PCM_16")
    data = bytearray(out.getvalue())
    at = data.index(b"fmt ") + 12
    data[at : at + 4] = rate.to_bytes(4, "little")
    with pytest.raises(ValueError, match=r"samples a second|cannot be decoded"):
        decode_sound(bytes(data), rate=16_000, max_seconds=3600)


def test_arrays_that_unfold_from_next_to_nothing_are_refused_unless_said(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((20_000_000,), np.float64))
    with pytest.raises(ComponentError, match=r"unfolds from \d+ to 16000\d+ bytes, more than 200 times .`max_ratio`"):
        Arrays(url=str(tmp_path / "x.npz")).open()
    assert len(Arrays(url=str(tmp_path / "x.npz"), max_ratio=2000).open()) == 20_000_000
    np.savez_compressed(tmp_path / "y.npz", x=np.random.default_rng(0).normal(size=(3000, 3000)))
    assert len(Arrays(url=str(tmp_path / "y.npz")).open()) == 3000


@pytest.mark.parametrize("stream", [False, True])
def test_a_row_group_that_unfolds_from_next_to_nothing_is_refused(tmp_path: Path, stream: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": np.zeros(20_000_000)}), tmp_path / "t.parquet", row_group_size=20_000_000)
    assert (tmp_path / "t.parquet").stat().st_size < 100_000
    with pytest.raises(ComponentError, match="row group 0' unfolds from"):
        Table(url=str(tmp_path / "t.parquet"), stream=stream).open()


def test_one_long_text_in_every_row_is_held_once(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"caption": ["word " * 200_000] * 200}), tmp_path / "t.parquet")
    before = pa.total_allocated_bytes()
    reader = Table(url=str(tmp_path / "t.parquet")).open()
    assert len(reader[150]["caption"]) == 1_000_000
    assert pa.total_allocated_bytes() - before < 20_000_000


@pytest.mark.parametrize("use", ["read", "open"])
def test_a_member_of_an_archive_that_unfolds_is_refused(tmp_path: Path, use: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.csv", bytes(70_000_000))
    folder = Folder(f"zip://::{tmp_path}/a.zip")
    reading: Any = {"read": lambda: folder.read("bomb.csv", 2**30), "open": lambda: folder.open("bomb.csv")}[use]
    with pytest.raises(ValueError, match="unfolds from"):
        reading()


def test_a_table_in_memory_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x\n" + "1\n" * 5000)
    assert len(Table(url=str(tmp_path / "t.csv")).open()) == 5000
    with pytest.raises(ComponentError, match="more than `max_bytes`"):
        Table(url=str(tmp_path / "t.csv"), max_bytes=1000).open()
