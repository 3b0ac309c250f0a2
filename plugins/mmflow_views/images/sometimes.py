"""The base of the transforms that are applied with a probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmflow.plugin import Field, TensorType
from mmflow_views.images.base import PictureTransform

if TYPE_CHECKING:
    import numpy as np


class Sometimes(PictureTransform):
    """Base of the transforms that are applied with probability `p`, and never in evaluation."""

    p: float = Field(1.0, ge=0, le=1)

    def draw(self, height: int, width: int, generator: Any) -> Any:
        if generator is None or generator.random() >= self.p:
            return None
        return self.strength(generator)

    def strength(self, generator: Any) -> Any:
        """How much, where it is applied."""
        return True

    def change(self, picture: np.ndarray, drawn: Any) -> np.ndarray:
        return picture if drawn is None else self.recolor(picture, drawn)

    def recolor(self, picture: np.ndarray, drawn: Any) -> np.ndarray:
        raise NotImplementedError


YES = TensorType("label", dtype="bool", names=("no", "yes"))


LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


def gray_of(picture: np.ndarray) -> np.ndarray:
    if picture.shape[2] < 3:
        return picture[..., 0].astype("float32")
    red, green, blue = LUMA
    return red * picture[..., 0] + green * picture[..., 1] + blue * picture[..., 2]
