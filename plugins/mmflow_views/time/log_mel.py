"""The spectrogram of a sound."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import ComponentError, Field, TensorType, Transform

if TYPE_CHECKING:
    import numpy as np


class LogMel(Transform, name="log_mel"):
    """A sound [T] as log mel spectrogram, float32 [1 + (T - window) // hop, mels]: ln(energy + 1e-6).

    Hann windows, power spectrum, triangular filters evenly spaced on the mel scale 2595 log10(1 + f / 700) between 0
    and half the rate. Sounds shorter than a window are padded with zeros.
    """

    example: ClassVar[str] = "views: {mel: {of: audio, apply: [{use: log_mel, rate: 8000}]}}"

    rate: int = Field(16_000, ge=1, le=10_000_000, description="samples a second of the sound")
    mels: int = Field(64, ge=4, le=512)
    window: int = Field(400, ge=16, le=1_000_000, description="samples")
    hop: int = Field(160, ge=1, le=1_000_000, description="samples")

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        if not isinstance(value, np.ndarray) or value.ndim != 1:
            raise ValueError(f"log_mel needs a sound [T], got {getattr(value, 'shape', type(value).__name__)}")
        sound = np.pad(value, (0, max(0, self.window - len(value)))).astype(np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(sound, self.window)[:: self.hop]
        power = np.abs(np.fft.rfft(frames * np.hanning(self.window + 1)[:-1], axis=1)) ** 2
        return np.log(power @ self.filters().T + 1e-6).astype(np.float32)

    def filters(self) -> np.ndarray:
        """Weights of each frequency in each mel band, [mels, window // 2 + 1]."""
        import numpy as np

        top = 2595 * math.log10(1 + self.rate / 2 / 700)
        edges = 700 * (10 ** (np.linspace(0, top, self.mels + 2) / 2595) - 1)
        frequencies = np.arange(self.window // 2 + 1) * self.rate / self.window
        rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
        return np.maximum(0, np.minimum(rising, falling))

    def result(self, field: TensorType) -> TensorType:
        if field.modality != "audio":
            raise ValueError(f"log_mel needs a sound, got {field.modality}")
        if field.rate is not None and field.rate != self.rate:
            raise ComponentError(
                f"log_mel is told {self.rate} samples a second, and the sound has {field.rate}",
                hint=f"write rate: {field.rate}",
            )
        length = field.size[0] if field.size else None
        frames = None if length is None else 1 + (max(length, self.window) - self.window) // self.hop
        return field.with_(modality="series", size=(frames, self.mels))
