"""Noise and gain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator

from mmflow.plugin import Field, TensorType
from mmflow_views.time.base import TimeTransform

if TYPE_CHECKING:
    import numpy as np


class AddNoise(TimeTransform, name="add_noise"):
    """Adds white noise of standard deviation `std`; none in evaluation."""

    std: float = Field(0.01, ge=0, le=1e6)

    def draw(self, length: int, generator: Any) -> Any:
        # The noise depends on each field's shape, so that the draw is its seed.
        return None if generator is None else int(generator.integers(2**63))

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        if drawn is None:
            return values
        noise = np.random.Generator(np.random.PCG64(drawn)).standard_normal(values.shape, dtype=np.float32)
        return values + np.float32(self.std) * noise


class Gain(TimeTransform, name="gain"):
    """Scales by a factor drawn between `low` and `high` decibels, not in evaluation. Adds `gain`, in decibels."""

    adds: ClassVar[Mapping[str, TensorType]] = {"gain": TensorType("number")}

    low: float = Field(-6.0, ge=-1000, le=1000)
    high: float = Field(6.0, ge=-1000, le=1000)

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
