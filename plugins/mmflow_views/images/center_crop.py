"""The central part."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from mmflow.plugin import TensorType
from mmflow_views.images.base import ImageTransform
from mmflow_views.images.placement import Placement, sides, sized
from mmflow_views.images.types import Size


class CenterCrop(ImageTransform, name="center_crop"):
    """The central `size` pixels, with a black border where the image is smaller."""

    example: ClassVar[str] = "apply: [{use: resize, size: 52}, {use: center_crop, size: 48}]"

    size: Size

    def place(self, drawn: Any, height: int, width: int) -> Placement:
        tall, wide = sides(self.size)
        left, top = math.floor((width - wide) / 2), math.floor((height - tall) / 2)
        return Placement((left, top, left + wide, top + tall), tall, wide)

    def result(self, field: TensorType) -> TensorType:
        return sized(field, *sides(self.size))
