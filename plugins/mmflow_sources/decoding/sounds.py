"""Sounds: one channel at a stated rate."""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

RATES = (1, 768_000)
"""Samples a second that a sound may have: a header may state any number."""
MOST_SAMPLES = 2**29
"""Samples that are held at a time, channels averaged: 2 GiB."""
TOGETHER = 2**20
"""Samples that are read at a time, before channels are averaged."""
SHORTER = re.compile(r"^\s*(data|SSND|Data Size|riff|Riff size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
"""Notes of libsndfile about a header that states more bytes than there are."""
UNKNOWN = 0x7FFF0000
"""From this size on a header says that it was written before the size was known."""


def decode_sound(data: bytes, *, rate: int, max_seconds: float) -> np.ndarray:
    """A sound as float32 [samples] in [-1, 1], channels averaged, `rate` samples a second.

    Raises `ValueError` where it cannot be decoded, is cut off, or lasts longer than `max_seconds`.
    """
    import numpy as np

    try:
        import soundfile
    except ImportError as error:
        raise ValueError("sound needs the package soundfile: pip install 'mmflow-kit[audio]'") from error
    if not data:
        raise ValueError("an empty file")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            found = file.samplerate
            if not RATES[0] <= found <= RATES[1]:
                raise ValueError(f"a sound of {found} samples a second, where {RATES[0]} to {RATES[1]} are read")
            if file.frames > min(max_seconds * found, MOST_SAMPLES):
                raise ValueError(f"a sound of {file.frames / found:.0f} s, more than `max_seconds` ({max_seconds:g})")
            values = _averaged(file)
            stated = file.frames
            note = str(file.extra_info)
    except soundfile.SoundFileError as error:
        # The text of the error itself tells an address in memory.
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise ValueError(f"a sound that cannot be decoded: {reason}") from error
    if len(values) < stated or _is_cut_off(data, note):
        raise ValueError(f"a sound that is cut off after {len(values) / found:.2f} s")
    if not len(values):
        raise ValueError("a sound without samples")
    if found != rate:
        from scipy.signal import resample_poly

        common = math.gcd(found, rate)
        values = resample_poly(values, rate // common, found // common).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("a sound that holds NaN or infinite values")
    return values


def _averaged(file: Any) -> np.ndarray:
    import numpy as np

    if file.channels == 1 or file.frames * file.channels <= TOGETHER:
        return file.read(dtype="float32", always_2d=True).mean(axis=1)
    blocks = iter(lambda: file.read(max(1, TOGETHER // file.channels), dtype="float32", always_2d=True), None)
    parts = []
    for block in blocks:
        if not len(block):
            break
        parts.append(block.mean(axis=1))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _is_cut_off(data: bytes, note: str) -> bool:
    """Whether a header states more bytes than there are, or an Ogg file lacks its last page."""
    if data.startswith(b"OggS"):
        last = data.rfind(b"OggS")
        if len(data) < last + 27 or len(data) < last + 27 + data[last + 26]:
            return True
        # Of its last page: the mark of the end, and the sizes of its segments.
        segments = data[last + 27 : last + 27 + data[last + 26]]
        return not data[last + 5] & 4 or len(data) < last + 27 + len(segments) + sum(segments)
    return any(int(actual) < int(stated) < UNKNOWN for _, stated, actual in SHORTER.findall(note))
