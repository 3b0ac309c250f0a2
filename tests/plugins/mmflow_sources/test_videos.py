"""Videos in folders and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmflow_sources.decoding.videos import decode_video, upright
from mmflow_sources.folder import FolderSource
from mmflow_sources.table import Table

from mmflow.data import ColumnRequest, scan
from mmflow.plugin import SampleError
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


MATRICES = {
    "not turned": ((1, 0), (0, 1)), "half a turn": ((-1, 0), (0, -1)), "a quarter right": ((0, 1), (-1, 0)),
    "a quarter left": ((0, -1), (1, 0)), "mirrored": ((-1, 0), (0, 1)), "upside down": ((1, 0), (0, -1)),
}  # fmt: skip


@pytest.mark.parametrize("name", MATRICES)
def test_an_image_is_turned_as_its_matrix_moves_its_points(name: str) -> None:
    (a, b), (c, d) = MATRICES[name]
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    turned = upright(image, [[65536 * a, 65536 * b, 0], [65536 * c, 65536 * d, 0], [0, 0, 2**30]])
    points = {(x, y): (a * x + c * y, b * x + d * y) for y in range(2) for x in range(3)}
    left, top = min(x for x, _ in points.values()), min(y for _, y in points.values())
    for (x, y), (u, v) in points.items():
        assert np.array_equal(turned[v - top, u - left], image[y, x])


@pytest.mark.parametrize(("degrees", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_a_rotated_video_stands_upright_as_av_turns_it(tmp_path: Path, degrees: int, corner: tuple[int, int]) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        values = np.zeros((32, 64, 3), dtype=np.uint8)
        values[:16, :32] = 255
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")))
        container.mux(stream.encode())
    matrix = {0: (1, 0, 0, 1), 90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}[degrees]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (int(65536 * value).to_bytes(4, "big", signed=True) for value in matrix)
    zero, one = bytes(4), (2**30).to_bytes(4, "big")
    data[at : at + 36] = a + b + zero + c + d + zero + zero + zero + one
    clip = decode_video(bytes(data), frames=2, max_pixels=10**7)
    assert clip.shape == ((2, 32, 64, 3) if degrees % 180 == 0 else (2, 64, 32, 3))
    assert clip[0][corner].mean() > 200
    assert sum(clip[0][place].mean() > 200 for place in ((0, 0), (0, -1), (-1, 0), (-1, -1))) == 1


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        # The last frame stands as long as the one before it: the middles of four parts are 1, 3, 5, 7.
        ([0, 1, 2, 3, 4, 5, 6, 7], [1, 3, 5, 7]),
        # 41 tenths of a second: 5.125, 15.375, 25.625, 35.875.
        ([0, 1, 2, 3, 4, 20, 30, 40], [4, 5, 6]),
        # 17 tenths: 2.125, 6.375, 10.625, 14.875.
        ([0, 10, 11, 12, 13, 14, 15, 16], [0, 1, 5]),
    ],
)
def test_frames_are_even_in_time_where_the_rate_varies(tmp_path: Path, times: list[int], expected: list[int]) -> None:
    from fractions import Fraction

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * number + 10, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    clip = decode_video((tmp_path / "a.mp4").read_bytes(), frames=4, max_pixels=10**7)
    assert shown(clip) == expected
