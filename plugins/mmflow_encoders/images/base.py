"""The base of the encoders that read images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Encoder, TensorType
from mmflow_encoders.images.fitting import fit_image, keep_image

if TYPE_CHECKING:
    import numpy as np


class ImageEncoder(Encoder):
    """Base of the image encoders: the deterministic preprocessing from a raw image to the image that is encoded.

    Each frame of a video is encoded, and the outputs have the axis `frame`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("image", "video"),)

    size: int = Field(64, ge=1, le=4096, description="height and width of the image that is encoded, in pixels")
    fit: Literal["crop", "squash", "keep"] = Field(
        "crop",
        description="crop: scale the shorter side and cut out the center; squash: scale both sides; keep: the size of "
        "the image, which may differ from `size` and must be the same for all images of a batch",
    )
    channels: Literal[1, 3] = Field(3, description="of the image that is encoded: gray or color")
    mean: float = Field(0.5, ge=-1e6, le=1e6, description="subtracted from the image in [0, 1]")
    std: float = Field(0.5, gt=0, le=1e6, description="divisor of the image after the subtraction")

    def multiple(self) -> int:
        """Pixels of which height and width must be multiples."""
        return 1

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> np.ndarray:
        if self.fit == "keep":
            return keep_image(value, self.channels, self.multiple())
        return fit_image(value, self.size, self.channels, squash=self.fit == "squash")

    def sides(self, image: TensorType) -> tuple[int | None, int | None]:
        """Height and width of the image that is encoded, None where they are not known."""
        if self.fit != "keep":
            return self.size, self.size
        known = image.size[-3:-1] if len(image.size) >= 3 else (None, None)
        height, width = (None if side is None else side // self.multiple() * self.multiple() for side in known)
        return height, width
