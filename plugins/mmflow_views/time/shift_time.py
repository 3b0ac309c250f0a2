"""Shifts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_views.time.base import TimeTransform

if TYPE_CHECKING:
    import numpy as np


class ShiftTime(TimeTransform, name="shift_time"):
    """Rotates along time by at most a share `most` either way: steps that leave at one end return at the other.

    Adds `shift`: the share of the whole, positive for later. Nothing moves in evaluation.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"shift": TensorType("number")}
    example: ClassVar[str] = "views: {moved: {of: audio, apply: [{use: shift_time, most: 0.1}]}}"

    most: float = Field(0.1, ge=0, le=1)

    def draw(self, length: int, generator: Any) -> int:
        reach = int(self.most * length)
        return 0 if generator is None else int(generator.integers(-reach, reach + 1))

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        return np.roll(values, drawn, axis=0)

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return {"shift": drawn / length}
