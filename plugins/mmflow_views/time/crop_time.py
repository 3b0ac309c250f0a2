"""A part in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_views.time.base import TimeTransform, timed

if TYPE_CHECKING:
    import numpy as np


SPAN = TensorType("vector", size=(2,))


class CropTime(TimeTransform, name="crop_time"):
    """`length` consecutive steps from a random place, the central steps in evaluation; shorter values end in zeros.

    Adds `span`: beginning and end of the part, as shares of the whole.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"span": SPAN}
    example: ClassVar[str] = "views: {part: {of: audio, apply: [{use: crop_time, length: 8000}]}}"

    length: int = Field(ge=1, le=2**31, description="number of steps")

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
