"""Rotation by right angles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mmflow.plugin import TensorType
from mmflow_views.images.base import ImageTransform
from mmflow_views.images.placement import Turned, sized


class QuarterTurn(ImageTransform, name="quarter_turn"):
    """Rotates by 0, 90, 180 or 270 degrees, counterclockwise; boxes and masks follow. Nothing rotates in evaluation.

    Adds `turn`, the number of right angles, as a label to be predicted (Gidaris et al., 2018).
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
