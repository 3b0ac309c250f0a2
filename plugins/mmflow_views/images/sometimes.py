"""The base of the transforms that are applied with a probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmflow.plugin import Field, TensorType
from mmflow_views.images.base import ImageTransform

if TYPE_CHECKING:
    import numpy as np


class Sometimes(ImageTransform):
    """Base of the transforms that are applied with probability `p`, and never in evaluation."""

    p: float = Field(1.0, ge=0, le=1)

    def draw(self, height: int, width: int, generator: Any) -> Any:
        if generator is None or generator.random() >= self.p:
            return None
        return self.strength(generator)

    def strength(self, generator: Any) -> Any:
        """The strength, drawn where the transform is applied."""
        return True

    def change(self, image: np.ndarray, drawn: Any) -> np.ndarray:
        return image if drawn is None else self.recolor(image, drawn)

    def recolor(self, image: np.ndarray, drawn: Any) -> np.ndarray:
        raise NotImplementedError


YES = TensorType("label", dtype="bool", names=("no", "yes"))


LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


def gray_of(image: np.ndarray) -> np.ndarray:
    if image.shape[2] < 3:
        return image[..., 0].astype("float32")
    red, green, blue = LUMA
    return red * image[..., 0] + green * image[..., 1] + blue * image[..., 2]
