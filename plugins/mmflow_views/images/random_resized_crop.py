"""A random part, scaled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import Field, TensorType
from mmflow_views.images.base import ImageTransform
from mmflow_views.images.placement import Placement, sides, sized
from mmflow_views.images.types import BOX, Size
from mmflow_views.numbers import Number


class RandomResizedCrop(ImageTransform, name="random_resized_crop"):
    """A part of random area and aspect ratio, scaled to `size` (Szegedy et al., 2015).

    Adds `box`: the part as (left, top, right, bottom), shares of the image's sides in [0, 1]. In evaluation it is the
    largest central part with the aspect ratio of `size`.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"box": BOX}
    example: ClassVar[str] = "apply: [{use: random_resized_crop, size: 48, scale: [0.2, 1.0]}, flip]"

    size: Size
    scale: tuple[Number, Number] = Field((0.08, 1.0), description="smallest and largest share of the area")
    ratio: tuple[Number, Number] = Field((3 / 4, 4 / 3), description="narrowest and widest aspect ratio")

    @field_validator("scale", "ratio")
    @classmethod
    def _ordered(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1]:
            raise ValueError("two positive numbers, the smaller one first")
        return pair

    @field_validator("scale")
    @classmethod
    def _inside(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if pair[1] > 1:
            raise ValueError("a part cannot be larger than the image: at most 1")
        return pair

    def draw(self, height: int, width: int, generator: Any) -> tuple[float, float, float, float]:
        """The part in shares of the sides."""
        tall, wide = sides(self.size)
        if generator is None:
            ratio = wide / tall
            w, h = (1.0, width / ratio / height) if width <= ratio * height else (height * ratio / width, 1.0)
            return ((1 - w) / 2, (1 - h) / 2, (1 + w) / 2, (1 + h) / 2)
        # The number of draws does not depend on how many parts did not fit.
        tries = generator.random((10, 2)).tolist()
        at = generator.random(2).tolist()
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for area, shape in tries:
            part = (self.scale[0] + area * (self.scale[1] - self.scale[0])) * height * width
            ratio = math.exp(low + shape * (high - low))
            w, h = math.sqrt(part * ratio) / width, math.sqrt(part / ratio) / height
            if w <= 1 and h <= 1:
                break
        else:
            ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
            w, h = min(1.0, height * ratio / width), min(1.0, width / ratio / height)
        left, top = at[0] * (1 - w), at[1] * (1 - h)
        return (left, top, left + w, top + h)

    def place(self, drawn: Any, height: int, width: int) -> Placement:
        left, top, right, bottom = drawn
        return Placement(
            (left * width, top * height, min(right, 1) * width, min(bottom, 1) * height), *sides(self.size)
        )

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        import numpy as np

        return {"box": np.array(drawn, dtype=np.float32)}

    def result(self, field: TensorType) -> TensorType:
        return sized(field, *sides(self.size))
