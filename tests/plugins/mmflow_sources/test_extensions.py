"""Files are known by every extension under which Pillow, libsndfile and FFmpeg read them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from mmflow_sources.decoding.kinds import IMAGES, SOUNDS, VIDEOS, looks_like_image, looks_like_sound, looks_like_video
from mmflow_sources.folder import FolderSource
from PIL import Image

OTHERS = {".eps", ".ps", ".fits", ".fit", ".h5", ".hdf", ".grib", ".bufr", ".wmf", ".emf", ".mpg", ".mpeg"}
"""Read by Pillow with another program, on Windows alone, or as a file without an image; films are videos."""


def test_every_extension_of_pillow_is_an_image() -> None:
    Image.init()
    known = {extension for extension, format in Image.registered_extensions().items() if format in Image.OPEN}
    assert known - OTHERS <= set(IMAGES)
    assert not OTHERS & set(IMAGES)


def test_every_format_of_libsndfile_is_a_sound() -> None:
    soundfile = pytest.importorskip("soundfile")
    others = {"MAT4", "MAT5", "RAW", "WAVEX", "MPC2K", "SVX", "IRCAM", "NIST"}
    assert all(looks_like_sound(f"a.{name.lower()}") for name in soundfile.available_formats() if name not in others)
    assert all(map(looks_like_sound, ("a.wav", "a.8svx", "a.sf", "a.sph", "a.aifc", "a.OGA", "a.snd")))


def test_containers_that_ffmpeg_names_are_videos() -> None:
    av = pytest.importorskip("av")
    for name in ("mp4", "mov", "matroska,webm", "avi", "mpegts", "flv", "asf", "ogg", "3gp", "mxf", "ivf", "nut"):
        format = av.format.ContainerFormat(name.partition(",")[0], "w") if name != "matroska,webm" else None
        extensions = format.extensions if format is not None else {"mkv", "webm"}
        sounds = {"wma", "ogg", "oga", "opus", "spx", "m4a", "mka"}
        stills = {"mk3d", "mks", "m4b", "isma", "ismv", "psp", "m2t", "f4p"}
        assert all(looks_like_video(f"a.{extension}") for extension in extensions - sounds - stills), extensions


def test_one_extension_is_of_one_kind() -> None:
    assert not set(IMAGES) & set(SOUNDS)
    assert not set(IMAGES) & set(VIDEOS)
    assert not set(SOUNDS) & set(VIDEOS)


@pytest.mark.parametrize(
    ("extension", "format"),
    [("jfif", "JPEG"), ("jpe", "JPEG"), ("dib", "DIB"), ("jp2", "JPEG2000"), ("tga", "TGA"), ("ico", "ICO"),
     ("pcx", "PCX"), ("avif", "AVIF"), ("apng", "PNG"), ("pnm", "PPM")],
)  # fmt: skip
def test_an_image_is_read_by_any_of_its_extensions(tmp_path: Path, extension: str, format: str) -> None:
    pixels = np.full((32, 32, 3), (10, 200, 90), np.uint8)
    Image.init()
    if format not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {format}")
    Image.fromarray(pixels).save(tmp_path / f"a.{extension}", format)
    (tmp_path / "a.txt").write_text("green")
    sample = FolderSource(url=str(tmp_path)).open()[0]
    assert sample["caption"] == "green"
    assert np.abs(sample["image"].astype(int) - pixels).max() < 12


@pytest.mark.parametrize(
    ("extension", "format"),
    [("aifc", "AIFF"), ("au", "AU"), ("snd", "AU"), ("caf", "CAF"), ("w64", "W64"), ("oga", "OGG")],
)  # fmt: skip
def test_a_sound_is_read_by_any_of_its_extensions(tmp_path: Path, extension: str, format: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    soundfile.write(out, np.zeros(4000, np.float32), 16_000, format=format)
    (tmp_path / f"a.{extension}").write_bytes(out.getvalue())
    assert FolderSource(url=str(tmp_path)).open()[0]["audio"].shape == (4000,)


@pytest.mark.parametrize("name", ["a.heic", "a.m4a", "a.jxl", "a.wma"])
def test_a_file_of_a_kind_that_is_not_read_here_is_a_bad_sample(tmp_path: Path, name: str) -> None:
    from mmflow.plugin import SampleError

    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    kind = "image" if looks_like_image(name) else "audio"
    reader = FolderSource(url=str(tmp_path)).open()
    with pytest.raises(SampleError, match=name):
        reader.read(0, (kind,))
