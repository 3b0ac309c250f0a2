"""Scaling."""

from __future__ import annotations

from typing import Any, ClassVar

from mmflow.plugin import TensorType
from mmflow_views.images.base import ImageTransform
from mmflow_views.images.placement import Placement, sized
from mmflow_views.images.types import Size


class Resize(ImageTransform, name="resize"):
    """Scales the image: `size` is the shorter side (the aspect ratio stays), or height and width."""

    example: ClassVar[str] = "apply: [{use: resize, size: [48, 48]}]"

    size: Size

    def place(self, drawn: Any, height: int, width: int) -> Placement:
        return Placement((0, 0, width, height), *self._target(height, width))

    def result(self, field: TensorType) -> TensorType:
        if isinstance(self.size, tuple):
            return sized(field, *self.size)
        known = field.size[-3:-1] if field.modality in ("image", "video") else field.size[-2:]
        height, width = known if len(known) == 2 else (None, None)
        if height is None or width is None:
            return sized(field, None, None)
        return sized(field, *self._target(height, width))

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self.size, tuple):
            return self.size
        shorter = min(height, width)
        return round(height * self.size / shorter), round(width * self.size / shorter)
