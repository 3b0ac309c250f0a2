"""A rectangle of another image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from mmflow.plugin import TensorType
from mmflow_views.images.base import is_image
from mmflow_views.images.types import BOX
from mmflow_views.mixing.base import PARTNER, SHARE, PairTransform, check_same_shape, distribution


class Cutmix(PairTransform, name="cutmix"):
    """Pastes a rectangle of another image (Yun et al., 2019); in a clip, the same rectangle in all frames.

    The rectangle has the share `1 - lambda` of the area and a random center; an edge may cut a part off, and `lambda`
    is the share of pixels that remain the row's own. Masks follow, labels are mixed by `lambda`. Adds `box`:
    the rectangle as (left, top, right, bottom), shares of the sides.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"lambda": SHARE, "partner": PARTNER, "box": BOX}
    example: ClassVar[str] = "views: {mixed: {of: [image, label], apply: [cutmix]}}"

    def pair(
        self, own: Mapping[str, Any], other: Mapping[str, Any], share: float, place: tuple[float, float]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        import numpy as np

        height, width = self._size(own)
        side = math.sqrt(1 - share)
        tall, wide = int(height * side), int(width * side)
        middle_x, middle_y = int(place[0] * width), int(place[1] * height)
        left, right = (min(max(middle_x + way * wide // 2, 0), width) for way in (-1, 1))
        top, bottom = (min(max(middle_y + way * tall // 2, 0), height) for way in (-1, 1))
        share = 1 - (right - left) * (bottom - top) / (width * height)
        values: dict[str, Any] = {}
        labels = self.labels(own)
        for name, value in own.items():
            if name in labels:
                values[name] = distribution(value, other[name], share, labels[name])
                continue
            if not isinstance(value, np.ndarray):
                raise ValueError(f"cutmix takes images, clips, masks and labels, not {type(value).__name__}")
            check_same_shape(self.use, value, other[name])
            area = (..., slice(top, bottom), slice(left, right), *[slice(None)] * (value.ndim > 2))
            values[name] = value.copy()
            values[name][area] = other[name][area]
        box = np.array([left / width, top / height, right / width, bottom / height], dtype=np.float32)
        return values, {"lambda": share, "box": box}

    def nothing(self) -> Mapping[str, Any]:
        import numpy as np

        return {"box": np.zeros(4, dtype=np.float32)}

    def _size(self, parts: Mapping[str, Any]) -> tuple[int, int]:
        for value in parts.values():
            if is_image(value) or getattr(value, "ndim", 0) == 4:
                return value.shape[-3], value.shape[-2]
        raise ValueError("cutmix needs an image or a clip among its fields")

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        if not any(field.modality in ("image", "video") for field in fields):
            found = ", ".join(field.modality for field in fields)
            raise ValueError(f"cutmix needs an image or a clip among its fields, got {found}")
        return super().added(*fields)

    def result(self, field: TensorType) -> TensorType:
        if field.modality not in ("image", "video", "mask", "label"):
            raise ValueError(f"cutmix takes images, clips, masks and labels, not {field.modality}")
        return super().result(field)
