"""Frames of a clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmflow.plugin import Field, TensorType
from mmflow_views.time.base import TimeTransform, timed

if TYPE_CHECKING:
    import numpy as np


class SampleFrames(TimeTransform, name="sample_frames"):
    """`count` frames of a clip: one at random from each equal part (Wang et al., TSN, 2016), or evenly spaced.

    `how: segments` takes the middle of each part in evaluation; `how: dense` takes frames `stride` apart from a random
    place (the central place in evaluation). Shorter clips repeat frames. Adds `frames`: the number of each frame in the
    clip.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"frames": TensorType("index", size=(None,), dtype="int64")}
    example: ClassVar[str] = "views: {clip: {of: video, apply: [{use: sample_frames, count: 8}]}}"

    count: int = Field(ge=1, le=1024)
    how: Literal["segments", "dense"] = "segments"
    stride: int = Field(1, ge=1, le=1_000_000)

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
