"""Mirroring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from mmflow.plugin import Field, TensorType
from mmflow_views.images.base import ImageTransform
from mmflow_views.images.placement import Placement


class Flip(ImageTransform, name="flip"):
    """Mirrors the image with probability `p`, never in evaluation. Adds `flip`, whether it is mirrored."""

    adds: ClassVar[Mapping[str, TensorType]] = {"flip": TensorType("label", dtype="bool", names=("no", "yes"))}

    p: float = Field(0.5, ge=0, le=1)
    direction: Literal["horizontal", "vertical"] = "horizontal"

    def draw(self, height: int, width: int, generator: Any) -> bool:
        return generator is not None and bool(generator.random() < self.p)

    def place(self, drawn: Any, height: int, width: int) -> Placement | None:
        return Placement((0, 0, width, height), height, width, flip=self.direction) if drawn else None

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        return {"flip": drawn}
