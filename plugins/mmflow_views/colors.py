"""Transforms of what pictures look like: color, sharpness, scale of the values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import Field, TensorType
from mmflow_views.geometry import BOX
from mmflow_views.pictures import PictureTransform

if TYPE_CHECKING:
    import numpy as np

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""

YES = TensorType("label", dtype="bool", names=("no", "yes"))


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


class ColorJitter(Sometimes, name="color_jitter"):
    """Brightness, contrast, saturation and hue changed at random, in random order (Chen et al., SimCLR, 2020).

    The first three are factors drawn from [1 - x, 1 + x]; hue is a turn of the color circle drawn from [-x, x].
    Adds `jitter`: these four numbers, (1, 1, 1, 0) where nothing changed.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"jitter": TensorType("vector", size=(4,))}
    example: ClassVar[str] = "{use: color_jitter, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1, p: 0.8}"

    brightness: float = Field(0.4, ge=0)
    contrast: float = Field(0.4, ge=0)
    saturation: float = Field(0.4, ge=0)
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

    def recolor(self, picture: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        order, (brightness, contrast, saturation, hue) = drawn
        values = picture.astype(np.float32)
        for step in order:
            if step == 0:
                values = values * brightness
            elif step == 1:
                mean = _gray(values).mean()
                values = mean + contrast * (values - mean)
            elif step == 2:
                gray = _gray(values)[..., None]
                values = gray + saturation * (values - gray)
            elif hue:
                values = _turned(values, hue)
            values = np.clip(values, 0, 255)
        return (values + 0.5).astype(np.uint8)


class Gray(Sometimes, name="gray"):
    """Gray values in all channels. Adds `gray`, whether it is."""

    adds: ClassVar[Mapping[str, TensorType]] = {"gray": YES}

    p: float = Field(0.2, ge=0, le=1)

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        return {"gray": drawn is not None}

    def recolor(self, picture: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        gray = (_gray(picture) + 0.5).astype(np.uint8)
        return np.repeat(gray[..., None], picture.shape[2], axis=2)


class Blur(Sometimes, name="blur"):
    """Gaussian blur with a width (standard deviation) drawn from `sigma`, in pixels. Adds `blur`: that width, or 0."""

    adds: ClassVar[Mapping[str, TensorType]] = {"blur": TensorType("number")}

    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = Field(0.5, ge=0, le=1)

    @field_validator("sigma")
    @classmethod
    def _ordered(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1]:
            raise ValueError("two positive numbers, the smaller one first")
        return pair

    def strength(self, generator: Any) -> float:
        return float(generator.uniform(*self.sigma))

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        return {"blur": drawn or 0.0}

    def recolor(self, picture: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        reach = max(1, round(3 * drawn))
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / drawn) ** 2)
        weights = (weights / weights.sum()).astype(np.float32).tolist()
        blurred = picture.astype(np.float32)
        for axis in (0, 1):
            pads = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
            padded = np.pad(blurred, pads, mode="symmetric")
            blurred = np.zeros_like(blurred)
            for offset, weight in enumerate(weights):
                blurred += weight * (padded[offset : offset + len(blurred)] if axis == 0 else
                                     padded[:, offset : offset + blurred.shape[1]])  # fmt: skip
        return (np.clip(blurred, 0, 255) + 0.5).astype(np.uint8)


class Solarize(Sometimes, name="solarize"):
    """Values from `threshold` on are inverted (Grill et al., BYOL, 2020). Adds `solarize`, whether they are."""

    adds: ClassVar[Mapping[str, TensorType]] = {"solarize": YES}

    threshold: int = Field(128, ge=0, le=255)
    p: float = Field(0.2, ge=0, le=1)

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        return {"solarize": drawn is not None}

    def recolor(self, picture: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        return np.where(picture >= self.threshold, 255 - picture, picture)


class Erase(Sometimes, name="erase"):
    """A rectangle of random area and place turned black (random erasing; Zhong et al., 2020).

    Adds `erased`: the rectangle as (left, top, right, bottom), shares of the sides; zeros where there is none.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"erased": BOX}

    area: tuple[float, float] = Field((0.02, 0.33), description="smallest and largest share of the picture")
    p: float = Field(0.5, ge=0, le=1)

    @field_validator("area")
    @classmethod
    def _shares(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1] <= 1:
            raise ValueError("two shares in (0, 1], the smaller one first")
        return pair

    def strength(self, generator: Any) -> tuple[float, ...]:
        return tuple(generator.random(4).tolist())

    def recolor(self, picture: np.ndarray, drawn: Any) -> np.ndarray:
        left, top, right, bottom = self._rectangle(drawn, *picture.shape[:2])
        picture = picture.copy()
        picture[top:bottom, left:right] = 0
        return picture

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        import numpy as np

        box = (0, 0, 0, 0) if drawn is None else self._rectangle(drawn, height, width)
        return {"erased": (np.array(box) / [width, height, width, height]).astype(np.float32)}

    def _rectangle(self, drawn: Any, height: int, width: int) -> tuple[int, int, int, int]:
        share, shape, across, down = drawn
        area = (self.area[0] + share * (self.area[1] - self.area[0])) * height * width
        ratio = math.exp((2 * shape - 1) * math.log(3))
        tall, wide = min(height, round(math.sqrt(area * ratio))), min(width, round(math.sqrt(area / ratio)))
        top, left = int(down * (height - tall + 1)), int(across * (width - wide + 1))
        return left, top, left + wide, top + tall


class Normalize(PictureTransform, name="normalize"):
    """Pictures as float32 [H, W, C], `(value / 255 - mean) / std` for each channel. The last transform of a view."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, ...]) -> tuple[float, ...]:
        if min(std, default=1) <= 0:
            raise ValueError("standard deviations must be positive")
        return std

    def change(self, picture: np.ndarray, drawn: Any) -> np.ndarray:
        import numpy as np

        mean, std = np.asarray(self.mean, dtype=np.float32), np.asarray(self.std, dtype=np.float32)
        if mean.shape != std.shape or len(mean) not in (1, picture.shape[2]):
            raise ValueError(
                f"normalize has {len(mean)} means and {len(std)} deviations for {picture.shape[2]} channels"
            )
        return (picture.astype(np.float32) / 255 - mean) / std

    def result(self, field: TensorType) -> TensorType:
        return field.with_(dtype="float32") if field.modality in ("image", "video") else field


def _gray(picture: np.ndarray) -> np.ndarray:
    if picture.shape[2] < 3:
        return picture[..., 0].astype("float32")
    red, green, blue = LUMA
    return red * picture[..., 0] + green * picture[..., 1] + blue * picture[..., 2]


def _turned(values: np.ndarray, hue: float) -> np.ndarray:
    """Hue turned by a share of the circle, in the color space of PIL (8 bits)."""
    import numpy as np
    from PIL import Image

    if values.shape[2] != 3:
        return values
    hsv = np.array(Image.fromarray((values + 0.5).astype(np.uint8)).convert("HSV"))
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(hue * 256)) % 256
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB")).astype(np.float32)
