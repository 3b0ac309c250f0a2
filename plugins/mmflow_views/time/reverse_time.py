"""Reversal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_views.time.base import TimeTransform

if TYPE_CHECKING:
    import numpy as np


class ReverseTime(TimeTransform, name="reverse_time"):
    """Reverses the order in time with probability `p`, never in evaluation. Adds `reversed`, whether it is reversed."""

    adds: ClassVar[Mapping[str, TensorType]] = {"reversed": TensorType("label", dtype="bool", names=("no", "yes"))}

    p: float = Field(0.5, ge=0, le=1)

    def draw(self, length: int, generator: Any) -> bool:
        return generator is not None and bool(generator.random() < self.p)

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        return values[::-1] if drawn else values

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return {"reversed": drawn}
