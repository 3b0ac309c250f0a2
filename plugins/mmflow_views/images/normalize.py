"""Values scaled by mean and deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from mmflow.plugin import TensorType
from mmflow_views.images.base import ImageTransform
from mmflow_views.numbers import Number

if TYPE_CHECKING:
    import numpy as np


class Normalize(ImageTransform, name="normalize"):
    """Images as float32 [H, W, C], `(value / 255 - mean) / std` for each channel; the last transform of a view."""

    mean: tuple[Number, ...] = (0.485, 0.456, 0.406)
    std: tuple[Number, ...] = (0.229, 0.224, 0.225)

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, ...]) -> tuple[float, ...]:
        if min(std, default=1) <= 0:
            raise ValueError("standard deviations must be positive")
        return std

    def change(self, image: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        mean, std = np.asarray(self.mean, dtype=np.float32), np.asarray(self.std, dtype=np.float32)
        if mean.shape != std.shape or len(mean) not in (1, image.shape[2]):
            raise ValueError(f"normalize has {len(mean)} means and {len(std)} deviations for {image.shape[2]} channels")
        return (image.astype(np.float32) / 255 - mean) / std

    def result(self, field: TensorType) -> TensorType:
        return field.with_(dtype="float32") if field.modality in ("image", "video") else field
