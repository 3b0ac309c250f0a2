"""The base of the image transforms: one draw for all fields of a view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmflow.plugin import TensorType, Transform
from mmflow_views.images.placement import Placement, Turned
from mmflow_views.images.types import refuse_floats

if TYPE_CHECKING:
    import numpy as np


class ImageTransform(Transform):
    """Base of the image transforms: write `draw`, and `change` for images alone or `place` for images, masks and boxes.

    Values: an image (uint8 [H, W, C]), a clip (uint8 [T, H, W, C], one draw for all frames), a mask (bool or integers
    [H, W]), boxes (floats [4] or [N, 4]: left, top, right, bottom in pixels), and lists of these over a group axis.
    Other values pass unchanged.
    """

    def draw(self, height: int, width: int, generator: Any) -> Any:
        """The random choice for an image of that size; `generator` is None in evaluation."""
        return None

    def change(self, image: np.ndarray, drawn: Any) -> np.ndarray:
        """The changed image [H, W, C]."""
        return image

    def place(self, drawn: Any, height: int, width: int) -> Placement | Turned | None:
        """The movement of pixels, None where every pixel stays in its place."""
        return None

    def facts(self, drawn: Any, height: int, width: int) -> Mapping[str, Any]:
        """Facts about the choice, under the names in `adds`."""
        return {}

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        sized = [f for f in fields if f.modality in ("image", "video") or (f.modality == "mask" and len(f.axes) == 1)]
        if fields and not sized:
            raise ValueError(f"{self.use} needs an image, got {', '.join(field.modality for field in fields)}")
        refuse_floats(self.use, *fields)
        return super().added(*fields)

    def apply(self, value: Any, generator: Any) -> Any:
        parts = dict(value) if isinstance(value, Mapping) else {"": value}
        if isinstance(value, Mapping) and not any(map(_holds_arrays, parts.values())):
            # The image is absent in this row.
            return value
        height, width = _size(parts, self.use)
        drawn = self.draw(height, width, generator)
        placement = self.place(drawn, height, width)
        parts = {name: self._follow(part, drawn, placement) for name, part in parts.items()}
        result = parts if isinstance(value, Mapping) else parts[""]
        return (result, self.facts(drawn, height, width)) if self.adds else result

    def _follow(self, value: Any, drawn: Any, placement: Placement | Turned | None) -> Any:
        import numpy as np

        if isinstance(value, list):
            return [None if member is None else self._follow(member, drawn, placement) for member in value]
        if not isinstance(value, np.ndarray):
            return value
        if is_image(value):
            moved = value if placement is None else placement.image(value)
            return self.change(moved, drawn)
        if value.dtype == np.uint8 and value.ndim == 4:
            return np.stack([self._follow(frame, drawn, placement) for frame in value])
        if placement is None:
            return value
        if value.ndim == 2 and value.dtype.kind in "bui":
            return placement.mask(value)
        if value.dtype.kind == "f" and value.shape[-1:] == (4,):
            return placement.boxes(value)
        return value


def _holds_arrays(value: Any) -> bool:
    return any(map(_holds_arrays, value)) if isinstance(value, list) else hasattr(value, "shape")


def is_image(value: Any) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] <= 4


def _size(parts: Mapping[str, Any], use: str) -> tuple[int, int]:
    import numpy as np

    for value in parts.values():
        first = value
        while isinstance(first, list) and first:
            first = next((member for member in first if member is not None), None)
        if isinstance(first, np.ndarray) and first.dtype == np.uint8 and first.ndim in (3, 4):
            return first.shape[-3], first.shape[-2]
    for value in parts.values():
        if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind in "bui":
            return value.shape[0], value.shape[1]
    found = ", ".join(f"{type(v).__name__}{_described(v)}" for v in parts.values())
    raise ValueError(f"{use} needs an image (uint8, height x width x channels), got {found}")


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return "" if shape is None else f" of {getattr(value, 'dtype', '')} {list(shape)}"
