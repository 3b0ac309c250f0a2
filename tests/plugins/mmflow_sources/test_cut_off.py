"""Sounds and videos that end too early are bad samples, not shorter ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from mmflow_sources.decoding.sounds import decode_sound
from mmflow_sources.decoding.videos import decode_video

soundfile = pytest.importorskip("soundfile")
av = pytest.importorskip("av")

SOUNDS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("AIFF", None), ("AU", None), ("W64", None), ("RF64", None),
          ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]  # fmt: skip
VIDEOS = [("mp4", "mpeg4"), ("mp4", "libx264"), ("matroska", "mpeg4"), ("webm", "libvpx"), ("avi", "mpeg4")]


def sound(format: str, subtype: str | None, seconds: float = 1.0, rate: int = 16_000) -> bytes:
    out = io.BytesIO()
    values = 0.5 * np.sin(np.arange(round(seconds * rate)) / 20)
    soundfile.write(out, values.astype(np.float32), rate, format=format, subtype=subtype)
    return out.getvalue()


def decode(data: bytes) -> np.ndarray:
    return decode_sound(data, rate=16_000, max_seconds=10)


@pytest.mark.parametrize(("format", "subtype"), SOUNDS)
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_a_sound_that_is_cut_off_is_refused(format: str, subtype: str | None, part: float) -> None:
    data = sound(format, subtype)
    assert abs(len(decode(data)) - 16_000) < 2400
    with pytest.raises(ValueError, match=r"a sound that (is cut off|cannot be decoded)"):
        decode(data[: int(part * len(data))])


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_sound_written_before_its_length_was_known_is_whole(size: int) -> None:
    data = bytearray(sound("WAV", "PCM_16"))
    at = data.index(b"data") + 4
    for place in (4, at):
        data[place : place + 4] = size.to_bytes(4, "little")
    assert len(decode(bytes(data))) == 16_000


def test_a_note_behind_the_samples_may_be_cut_off() -> None:
    data = bytearray(sound("WAV", "PCM_16") + b"LIST" + (1000).to_bytes(4, "little") + b"INFO")
    data[4:8] = (len(data) + 988).to_bytes(4, "little")
    assert len(decode(bytes(data))) == 16_000


def video(format: str, codec: str, frames: int = 40) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=format) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for number in range(frames):
            values = np.random.default_rng(number).integers(0, 256, (32, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


@pytest.mark.parametrize(("format", "codec"), VIDEOS)
@pytest.mark.parametrize("part", [0.3, 0.7, 0.97])
def test_a_video_that_is_cut_off_is_refused(format: str, codec: str, part: float) -> None:
    data = video(format, codec)
    assert decode_video(data, frames=4, max_pixels=10**7).shape == (4, 32, 64, 3)
    with pytest.raises(ValueError, match=r"a video that (is cut off|cannot be decoded)"):
        decode_video(data[: int(part * len(data))], frames=4, max_pixels=10**7)
