"""Transforms that say where things go: crops, sizes, mirrors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import field_validator

from mmflow.plugin import Field, TensorType
from mmflow_views.pictures import PictureTransform, Placement, Turned, sides, sized

Side = Annotated[int, Field(ge=1, le=8192)]
Size = Side | tuple[Side, Side]
BOX = TensorType("boxes", size=(4,))


class RandomResizedCrop(PictureTransform, name="random_resized_crop"):
    """A part of random area and aspect ratio, scaled to `size` (Szegedy et al., 2015).

    Adds `box`: the part as (left, top, right, bottom), shares of the picture's sides in [0, 1]. In evaluation it is the
    largest part in the middle with the aspect ratio of `size`.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"box": BOX}
    example: ClassVar[str] = "apply: [{use: random_resized_crop, size: 48, scale: [0.2, 1.0]}, flip]"

    size: Size
    scale: tuple[float, float] = Field((0.08, 1.0), description="smallest and largest share of the area")
    ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="narrowest and widest aspect ratio")

    @field_validator("scale", "ratio")
    @classmethod
    def _ordered(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1]:
            raise ValueError("two positive numbers, the smaller one first")
        return pair

    @field_validator("scale")
    @classmethod
    def _inside(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if pair[1] > 1:
            raise ValueError("a part cannot be larger than the picture: at most 1")
        return pair

    def draw(self, height: int, width: int, generator: Any) -> tuple[float, float, float, float]:
        """The part in shares of the sides."""
        tall, wide = sides(self.size)
        if generator is None:
            ratio = wide / tall
            w, h = (1.0, width / ratio / height) if width <= ratio * height else (height * ratio / width, 1.0)
            return ((1 - w) / 2, (1 - h) / 2, (1 + w) / 2, (1 + h) / 2)
        # The same number of draws each time, however often a part did not fit.
        tries = generator.random((10, 2)).tolist()
        at = generator.random(2).tolist()
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for area, shape in tries:
            part = (self.scale[0] + area * (self.scale[1] - self.scale[0])) * height * width
            ratio = math.exp(low + shape * (high - low))
            w, h = math.sqrt(part * ratio) / width, math.sqrt(part / ratio) / height
            if w <= 1 and h <= 1:
                break
        else:
            ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
            w, h = min(1.0, height * ratio / width), min(1.0, width / ratio / height)
        left, top = at[0] * (1 - w), at[1] * (1 - h)
        return (left, top, left + w, top + h)

    def place(self, drawn: Any, height: int, width: int) -> Placement:
        left, top, right, bottom = drawn
        return Placement(
            (left * width, top * height, min(right, 1) * width, min(bottom, 1) * height), *sides(self.size)
        )

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        import numpy as np

        return {"box": np.array(drawn, dtype=np.float32)}

    def result(self, field: TensorType) -> TensorType:
        return sized(field, *sides(self.size))


class CenterCrop(PictureTransform, name="center_crop"):
    """The middle `size` pixels, with a black border where the picture is smaller."""

    example: ClassVar[str] = "apply: [{use: resize, size: 52}, {use: center_crop, size: 48}]"

    size: Size

    def place(self, drawn: Any, height: int, width: int) -> Placement:
        tall, wide = sides(self.size)
        left, top = math.floor((width - wide) / 2), math.floor((height - tall) / 2)
        return Placement((left, top, left + wide, top + tall), tall, wide)

    def result(self, field: TensorType) -> TensorType:
        return sized(field, *sides(self.size))


class Resize(PictureTransform, name="resize"):
    """Scaled: `size` gives the shorter side (the aspect ratio stays), or height and width."""

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


class Flip(PictureTransform, name="flip"):
    """Mirrored with probability `p`; adds `flip`, whether it was. Never in evaluation."""

    adds: ClassVar[Mapping[str, TensorType]] = {"flip": TensorType("label", dtype="bool", names=("no", "yes"))}

    p: float = Field(0.5, ge=0, le=1)
    direction: Literal["horizontal", "vertical"] = "horizontal"

    def draw(self, height: int, width: int, generator: Any) -> bool:
        return generator is not None and bool(generator.random() < self.p)

    def place(self, drawn: Any, height: int, width: int) -> Placement | None:
        return Placement((0, 0, width, height), height, width, flip=self.direction) if drawn else None

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        return {"flip": drawn}


class QuarterTurn(PictureTransform, name="quarter_turn"):
    """Turned by 0, 90, 180 or 270 degrees, counterclockwise; boxes and masks follow. Never in evaluation.

    Adds `turn`, how many quarters, as a label to be predicted (Gidaris et al., 2018).
    """

    adds: ClassVar[Mapping[str, TensorType]] = {
        "turn": TensorType("label", dtype="int64", names=("0", "90", "180", "270"))
    }  # fmt: skip

    def draw(self, height: int, width: int, generator: Any) -> int:
        return 0 if generator is None else int(generator.integers(4))

    def place(self, drawn: Any, height: int, width: int) -> Turned | None:
        return Turned(drawn, height, width) if drawn else None

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        return {"turn": drawn}

    def result(self, field: TensorType) -> TensorType:
        known = field.size[-3:-1] if field.modality in ("image", "video") else field.size[-2:]
        return field if len(known) == 2 and known[0] == known[1] else sized(field, None, None)
