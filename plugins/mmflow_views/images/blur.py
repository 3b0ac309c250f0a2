"""Gaussian blur."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import Field, TensorType
from mmflow_views.images.sometimes import Sometimes
from mmflow_views.numbers import Number

if TYPE_CHECKING:
    import numpy as np


class Blur(Sometimes, name="blur"):
    """Gaussian blur with a width (standard deviation) drawn from `sigma`, in pixels. Adds `blur`: that width, or 0."""

    adds: ClassVar[Mapping[str, TensorType]] = {"blur": TensorType("number")}

    sigma: tuple[Number, Number] = Field((0.1, 2.0), description="smallest and largest standard deviation, in pixels")
    p: float = Field(0.5, ge=0, le=1)

    @field_validator("sigma")
    @classmethod
    def _ordered(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1]:
            raise ValueError("two positive numbers, the smaller one first")
        return pair

    def strength(self, generator: Any) -> float:
        return float(generator.uniform(*self.sigma))

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        return {"blur": drawn or 0.0}

    def recolor(self, image: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        reach = max(1, round(3 * drawn))
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / drawn) ** 2)
        weights = (weights / weights.sum()).astype(np.float32).tolist()
        blurred = image.astype(np.float32)
        for axis in (0, 1):
            pads = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
            padded = np.pad(blurred, pads, mode="symmetric")
            blurred = np.zeros_like(blurred)
            for offset, weight in enumerate(weights):
                blurred += weight * (padded[offset : offset + len(blurred)] if axis == 0 else
                                     padded[:, offset : offset + blurred.shape[1]])  # fmt: skip
        return (np.clip(blurred, 0, 255) + 0.5).astype(np.uint8)
