"""Random colors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_views.images.sometimes import Sometimes, gray_of

if TYPE_CHECKING:
    import numpy as np


class ColorJitter(Sometimes, name="color_jitter"):
    """Changes brightness, contrast, saturation and hue at random, in random order (Chen et al., SimCLR, 2020).

    The first three are factors drawn from [1 - x, 1 + x]; hue is a rotation of the color circle drawn from [-x, x].
    Adds `jitter`: these four numbers, (1, 1, 1, 0) where nothing changed.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"jitter": TensorType("vector", size=(4,))}
    example: ClassVar[str] = "{use: color_jitter, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1, p: 0.8}"

    brightness: float = Field(0.4, ge=0, le=100)
    contrast: float = Field(0.4, ge=0, le=100)
    saturation: float = Field(0.4, ge=0, le=100)
    hue: float = Field(0.1, ge=0, le=0.5)
    p: float = Field(0.8, ge=0, le=1)

    def strength(self, generator: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
        order = tuple(generator.permutation(4).tolist())
        draws = (2 * generator.random(4) - 1).tolist()
        widths = (self.brightness, self.contrast, self.saturation)
        return order, (*(max(0.0, 1 + w * d) for w, d in zip(widths, draws, strict=False)), self.hue * draws[3])

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        import numpy as np

        return {"jitter": np.array((1, 1, 1, 0) if drawn is None else drawn[1], dtype=np.float32)}

    def recolor(self, image: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        order, (brightness, contrast, saturation, hue) = drawn
        values = image.astype(np.float32)
        for step in order:
            if step == 0:
                values = values * brightness
            elif step == 1:
                mean = gray_of(values).mean()
                values = mean + contrast * (values - mean)
            elif step == 2:
                gray = gray_of(values)[..., None]
                values = gray + saturation * (values - gray)
            elif hue:
                values = _turned(values, hue)
            values = np.clip(values, 0, 255)
        return (values + 0.5).astype(np.uint8)


def _turned(values: np.ndarray, hue: float) -> np.ndarray:
    """The hue rotated by a share of the color circle, in PIL's HSV (8 bits)."""
    import numpy as np
    from PIL import Image

    if values.shape[2] != 3:
        return values
    hsv = np.array(Image.fromarray((values + 0.5).astype(np.uint8)).convert("HSV"))
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(hue * 256)) % 256
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB")).astype(np.float32)
