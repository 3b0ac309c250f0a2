"""Transforms of what runs in time: sounds [T], series [T, C] and clips [T, H, W, C]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from mmflow.plugin import Field, TensorType, Transform

if TYPE_CHECKING:
    import numpy as np

SPAN = TensorType("vector", size=(2,))
TIMED = frozenset({"audio", "series", "video", "tokens"})
"""Modalities whose first content size is a length in time."""
TIMELESS = frozenset({"image", "text", "label", "number", "id"})
"""Modalities that have no length at all, but along an axis of frames."""


class TimeTransform(Transform):
    """Base of the transforms along time: write `change`. All fields of a joint view follow one draw."""

    def draw(self, length: int, generator: Any) -> Any:
        return None

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        raise NotImplementedError

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return {}

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        if fields and all(field.modality in TIMELESS and "frame" not in field.axes for field in fields):
            found = ", ".join(field.modality for field in fields)
            raise ValueError(f"{self.use} needs what runs in time, such as a sound, a series or a video, got {found}")
        return super().added(*fields)

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        parts = value if isinstance(value, Mapping) else {"": value}
        lengths = {len(part) for part in parts.values() if isinstance(part, np.ndarray) and part.ndim}
        if len(lengths) != 1:
            found = ", ".join(type(part).__name__ for part in parts.values())
            raise ValueError(f"{self.use} needs arrays of one length in time, got {found} of {sorted(lengths)}")
        (length,) = lengths
        drawn = self.draw(length, generator)
        changed = {
            name: self.change(part, drawn) if isinstance(part, np.ndarray) else part for name, part in parts.items()
        }
        result = changed if isinstance(value, Mapping) else changed[""]
        return (result, self.facts(drawn, length)) if self.adds else result


def timed(field: TensorType, length: int) -> TensorType:
    """The declared type with another length in time: a group axis of frames, or the first content size."""
    if "frame" in field.axes[1:]:
        place = field.axes.index("frame") - 1
        groups = (*field.groups[:place], length, *field.groups[place + 1 :])
        return field.with_(groups=groups)
    return field.with_(size=(length, *field.size[1:])) if field.modality in TIMED else field


class CropTime(TimeTransform, name="crop_time"):
    """`length` steps in a row from a random place, the middle ones in evaluation; zeros follow what is shorter.

    Adds `span`: where the part begins and ends, as shares of the whole.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"span": SPAN}
    example: ClassVar[str] = "views: {part: {of: audio, apply: [{use: crop_time, length: 8000}]}}"

    length: int = Field(ge=1)

    def draw(self, length: int, generator: Any) -> int:
        free = max(0, length - self.length)
        return free // 2 if generator is None else int(generator.integers(free + 1))

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        part = values[drawn : drawn + self.length]
        missing = self.length - len(part)
        return np.pad(part, [(0, missing)] + [(0, 0)] * (values.ndim - 1)) if missing else part

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        import numpy as np

        end = min(drawn + self.length, length)
        return {"span": np.array([drawn / length, end / length], dtype=np.float32)}

    def result(self, field: TensorType) -> TensorType:
        return timed(field, self.length)


class SampleFrames(TimeTransform, name="sample_frames"):
    """`count` frames of a clip: one at random from each of as many equal parts (Wang et al., TSN, 2016), or in a row.

    `how: segments` takes the middle of each part in evaluation; `how: dense` takes frames `stride` apart from a random
    place (the middle in evaluation). Shorter clips repeat frames. Adds `frames`: the number of each in the clip.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"frames": TensorType("index", size=(None,), dtype="int64")}
    example: ClassVar[str] = "views: {clip: {of: video, apply: [{use: sample_frames, count: 8}]}}"

    count: int = Field(ge=1, le=1024)
    how: Literal["segments", "dense"] = "segments"
    stride: int = Field(1, ge=1)

    def draw(self, length: int, generator: Any) -> Any:
        import numpy as np

        if self.how == "segments":
            within = np.full(self.count, 0.5) if generator is None else generator.random(self.count)
            places = (np.arange(self.count) + within) * length / self.count
            return np.minimum(places.astype(int), length - 1)
        free = max(0, length - (self.count - 1) * self.stride - 1)
        start = free // 2 if generator is None else int(generator.integers(free + 1))
        return np.minimum(start + np.arange(self.count) * self.stride, length - 1)

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        return values[drawn]

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return {"frames": drawn}

    def result(self, field: TensorType) -> TensorType:
        return timed(field, self.count)

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        return {"frames": super().added(*fields)["frames"].with_(size=(self.count,))}


class AddNoise(TimeTransform, name="add_noise"):
    """White noise of standard deviation `std` added; none in evaluation."""

    std: float = Field(0.01, ge=0)

    def draw(self, length: int, generator: Any) -> Any:
        # The noise itself depends on each field's shape: a seed stands for it.
        return None if generator is None else int(generator.integers(2**63))

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        if drawn is None:
            return values
        noise = np.random.Generator(np.random.PCG64(drawn)).standard_normal(values.shape, dtype=np.float32)
        return values + np.float32(self.std) * noise


class Gain(TimeTransform, name="gain"):
    """Scaled by a factor drawn between `low` and `high` decibels; unchanged in evaluation. Adds `gain`, in decibels."""

    adds: ClassVar[Mapping[str, TensorType]] = {"gain": TensorType("number")}

    low: float = -6.0
    high: float = 6.0

    @model_validator(mode="after")
    def _ordered(self) -> Gain:
        if self.low > self.high:
            raise ValueError("`low` lies above `high`")
        return self

    def draw(self, length: int, generator: Any) -> float:
        return 0.0 if generator is None else float(generator.uniform(self.low, self.high))

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        return values if drawn == 0 else values * np.float32(10 ** (drawn / 20))

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return {"gain": drawn}


class LogMel(Transform, name="log_mel"):
    """A sound [T] as log mel spectrogram, float32 [1 + (T - window) // hop, mels]: ln(energy + 1e-6).

    Hann windows, power spectrum, triangular filters evenly spaced on the mel scale 2595 log10(1 + f / 700) between 0
    and half the rate. Sounds shorter than a window are padded with zeros.
    """

    example: ClassVar[str] = "views: {mel: {of: audio, apply: [{use: log_mel, rate: 8000}]}}"

    rate: int = Field(16_000, ge=1, description="samples a second of the sound")
    mels: int = Field(64, ge=4, le=512)
    window: int = Field(400, ge=16, description="samples")
    hop: int = Field(160, ge=1, description="samples")

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
        length = field.size[0] if field.size else None
        frames = None if length is None else 1 + (max(length, self.window) - self.window) // self.hop
        return field.with_(modality="series", size=(frames, self.mels))
