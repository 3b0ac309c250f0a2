"""The base of the encoders that read images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Encoder

if TYPE_CHECKING:
    import numpy as np

from mmflow_encoders.images.fitting import fit_image


class ImageEncoder(Encoder):
    """Base of the image encoders: the deterministic preprocessing from a raw image to a square of `size`.

    Each frame of a video is encoded, and the outputs have the axis `frame`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("image", "video"),)

    size: int = Field(64, ge=1, le=4096, description="height and width of the image that is encoded, in pixels")
    fit: Literal["crop", "squash"] = Field(
        "crop", description="crop: scale the shorter side and cut out the center; squash: scale both sides"
    )
    channels: Literal[1, 3] = Field(3, description="of the image that is encoded: gray or color")
    mean: float = Field(0.5, description="subtracted from the image in [0, 1]")
    std: float = Field(0.5, gt=0, description="divisor of the image after the subtraction")

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> np.ndarray:
        return fit_image(value, self.size, self.channels, squash=self.fit == "squash")
