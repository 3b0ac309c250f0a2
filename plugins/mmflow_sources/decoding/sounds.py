"""Sounds: one channel at a stated rate."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def decode_sound(data: bytes, *, rate: int, max_seconds: float) -> np.ndarray:
    """A sound as float32 [samples] in [-1, 1], channels averaged, `rate` samples a second.

    Raises `ValueError` where it cannot be decoded, or lasts longer than `max_seconds`.
    """
    import math

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
            if file.frames > max_seconds * found:
                raise ValueError(f"a sound of {file.frames / found:.0f} s, more than `max_seconds` ({max_seconds:g})")
            values = file.read(dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        # The text of the error itself tells an address in memory.
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise ValueError(f"a sound that cannot be decoded: {reason}") from error
    if not len(values):
        raise ValueError("a sound without samples")
    values = values.mean(axis=1)
    if found != rate:
        from scipy.signal import resample_poly

        common = math.gcd(found, rate)
        values = resample_poly(values, rate // common, found // common).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("a sound that holds NaN or infinite values")
    return values
