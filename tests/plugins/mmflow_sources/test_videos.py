"""Videos in folders and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmflow_sources.folder import FolderSource
from mmflow_sources.table import Table

from mmflow.data import ColumnRequest, SampleError, scan
from mmflow.plugin.targets import Target

av = pytest.importorskip("av")


def write_video(path: Path, frames: int) -> None:
    """Frames whose gray value is ten times their number, and one more."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            values = np.full((48, 64, 3), 10 * number + 10, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")))
        container.mux(stream.encode())


def shown(clip: np.ndarray) -> list[int]:
    return [round((float(frame.mean()) - 10) / 10) for frame in clip]


def test_frames_are_evenly_spaced(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 20)
    write_video(tmp_path / "b.mp4", 3)
    columns = {"clip": {"column": "video", "frames": 5}}
    source = FolderSource.model_validate({"url": str(tmp_path), "columns": columns})
    reader = source.open()
    assert shown(reader[0]["clip"]) == [2, 6, 10, 14, 18]
    assert shown(reader[1]["clip"]) == [0, 1, 2]
    (batch,) = scan(source, {}, [ColumnRequest("clip", Target("fields", "clip"))], batch_size=2)
    column = batch.columns["clip"]
    assert column.values.shape == (2, 5, 3, 48, 64)
    assert column.present is not None
    assert column.present.tolist() == [[True] * 5, [True] * 3 + [False] * 2]


def test_a_table_names_videos_and_broken_ones_are_one_samples_fault(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 8)
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:200])
    (tmp_path / "t.csv").write_text("clip,n\na.mp4,1\nb.mp4,2\n")
    source = Table(url=str(tmp_path / "t.csv"))
    assert source.fields()["clip"].modality == "video"
    assert shown(source.open()[0]["clip"]) == list(range(8))
    with pytest.raises(SampleError, match=r"line 3, column 'clip': b\.mp4: a video that is cut off"):
        source.open()[1]
    with pytest.raises(SampleError, match="max_pixels"):
        Table(url=str(tmp_path / "t.csv"), max_pixels=10_000).open()[0]
