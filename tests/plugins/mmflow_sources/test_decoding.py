"""Files of unusual kinds become what they show, or are one clear message."""

from __future__ import annotations

import io

import numpy as np
import pytest
from mmflow_sources.decoding.images import decode_image
from mmflow_sources.decoding.sounds import decode_sound
from PIL import Image

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
"""All grays of 16 bits whose high byte says all of them."""


def saved(image: np.ndarray, format: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, format)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [saved(RAMP, "PNG"), saved(RAMP, "TIFF"), b"P5 16 16 65535\n" + RAMP.astype(">u2").tobytes()],
    ids=["png", "tiff", "pgm"],
)
def test_grays_of_16_bits_keep_their_high_byte(data: bytes) -> None:
    found = decode_image(data, max_pixels=1000)
    assert found.shape == (16, 16, 3)
    assert np.array_equal(found[..., 0], RAMP >> 8)


@pytest.mark.parametrize("image", [RAMP.astype(np.int32), (RAMP / 65535).astype(np.float32)], ids=["int32", "float"])
def test_numbers_without_a_known_white_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"no known white.*8 or 16 bits"):
        decode_image(saved(image, "TIFF"), max_pixels=1000)


def test_a_sound_without_samples_is_refused() -> None:
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    soundfile.write(out, np.zeros(0, np.float32), 8000, format="WAV")
    with pytest.raises(ValueError, match="a sound without samples"):
        decode_sound(out.getvalue(), rate=8000, max_seconds=1)


def test_the_message_of_a_broken_sound_is_the_same_each_time() -> None:
    pytest.importorskip("soundfile")
    found = set()
    for _ in range(3):
        with pytest.raises(ValueError, match="cannot be decoded") as caught:
            decode_sound(b"no sound", rate=8000, max_seconds=1)
        found.add(str(caught.value))
    assert len(found) == 1
    assert found.pop().startswith("a sound that cannot be decoded: Format not recogni")
