"""A black rectangle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import Field, TensorType
from mmflow_views.images.sometimes import Sometimes
from mmflow_views.images.types import BOX
from mmflow_views.numbers import Number

if TYPE_CHECKING:
    import numpy as np


class Erase(Sometimes, name="erase"):
    """Blackens a rectangle of random area and place (random erasing; Zhong et al., 2020).

    Adds `erased`: the rectangle as (left, top, right, bottom), shares of the sides; zeros where there is none.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"erased": BOX}

    area: tuple[Number, Number] = Field((0.02, 0.33), description="smallest and largest share of the image")
    p: float = Field(0.5, ge=0, le=1)

    @field_validator("area")
    @classmethod
    def _shares(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1] <= 1:
            raise ValueError("two shares in (0, 1], the smaller one first")
        return pair

    def strength(self, generator: Any) -> tuple[float, ...]:
        return tuple(generator.random(4).tolist())

    def recolor(self, image: np.ndarray, drawn: Any) -> np.ndarray:
        left, top, right, bottom = self._rectangle(drawn, *image.shape[:2])
        image = image.copy()
        image[top:bottom, left:right] = 0
        return image

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        import numpy as np

        box = (0, 0, 0, 0) if drawn is None else self._rectangle(drawn, height, width)
        return {"erased": (np.array(box) / [width, height, width, height]).astype(np.float32)}

    def _rectangle(self, drawn: Any, height: int, width: int) -> tuple[int, int, int, int]:
        share, shape, across, down = drawn
        area = (self.area[0] + share * (self.area[1] - self.area[0])) * height * width
        ratio = math.exp((2 * shape - 1) * math.log(3))
        tall, wide = min(height, round(math.sqrt(area * ratio))), min(width, round(math.sqrt(area / ratio)))
        top, left = int(down * (height - tall + 1)), int(across * (width - wide + 1))
        return left, top, left + wide, top + tall
