"""How masks, boxes and images follow one crop, mirror or turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mmflow.plugin import TensorType

if TYPE_CHECKING:
    import numpy as np


class Placement(NamedTuple):
    """The part `box` (left, top, right, bottom in pixels, may reach outside) scaled to `height` x `width`."""

    box: tuple[float, float, float, float]
    height: int
    width: int
    flip: str = ""
    """`horizontal` or `vertical`: mirrored after scaling."""

    def image(self, image: np.ndarray) -> np.ndarray:
        return self._mirror(self._cut(image, nearest=False))

    def mask(self, mask: np.ndarray) -> np.ndarray:
        import numpy as np

        small = mask.dtype in (np.bool_, np.uint8)
        cut = self._cut(mask.astype(np.uint8) if small else mask.astype(np.int32), nearest=True)
        return self._mirror(cut.astype(mask.dtype))

    def boxes(self, boxes: np.ndarray) -> Any:
        """Boxes in the new image, cut at its edges; a single box that lies outside is absent (None)."""
        import numpy as np

        left, top, right, bottom = self.box
        scale = np.array([self.width / (right - left), self.height / (bottom - top)] * 2)
        moved = (boxes - np.array([left, top, left, top])) * scale
        limits = np.array([self.width, self.height] * 2, dtype=np.float64)
        if self.flip:
            low, high = (0, 2) if self.flip == "horizontal" else (1, 3)
            moved[..., [low, high]] = limits[low] - moved[..., [high, low]]
        moved = np.clip(moved, 0, limits).astype(boxes.dtype)
        if boxes.ndim == 1 and (moved[2] <= moved[0] or moved[3] <= moved[1]):
            return None
        return moved

    def _cut(self, values: np.ndarray, nearest: bool) -> np.ndarray:
        import numpy as np
        from PIL import Image

        left, top, right, bottom = self.box
        height, width = values.shape[:2]
        if min(left, top) < 0 or right > width or bottom > height:
            values, (left, top, right, bottom) = _padded(values, self.box)
            height, width = values.shape[:2]
        if self.box == (0, 0, self.width, self.height) and (height, width) == (self.height, self.width):
            return values
        if (right - left, bottom - top) == (self.width, self.height) and left == int(left) and top == int(top):
            return values[int(top) : int(bottom), int(left) : int(right)]
        method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        single = values.ndim == 3 and values.shape[2] == 1
        image = Image.fromarray(np.ascontiguousarray(values[..., 0] if single else values))
        out = np.asarray(image.resize((self.width, self.height), method, box=(left, top, right, bottom)))
        return out[..., None] if single else out

    def _mirror(self, values: np.ndarray) -> np.ndarray:
        if not self.flip:
            return values
        return values[:, ::-1] if self.flip == "horizontal" else values[::-1]


class Turned(NamedTuple):
    """A rotation counterclockwise by `quarters` right angles, of images of `height` x `width`."""

    quarters: int
    height: int
    width: int

    def image(self, image: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.rot90(image, self.quarters)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        return self.image(mask)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        import numpy as np

        height, width = self.height, self.width
        for _ in range(self.quarters):
            left, top, right, bottom = np.moveaxis(boxes, -1, 0)
            boxes = np.stack([top, width - right, bottom, width - left], axis=-1).astype(boxes.dtype)
            height, width = width, height
        return boxes


def sized(field: TensorType, height: int | None, width: int | None) -> TensorType:
    """The declared type of an image, clip or mask with another height and width."""
    if field.modality in ("image", "video") and len(field.size) >= 3:
        return field.with_(size=(*field.size[:-3], height, width, field.size[-1]))
    if field.modality == "mask" and len(field.size) >= 2:
        return field.with_(size=(*field.size[:-2], height, width))
    return field


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _padded(values: np.ndarray, box: tuple[float, float, float, float]) -> tuple[np.ndarray, tuple[float, ...]]:
    import math

    import numpy as np

    left, top, right, bottom = box
    height, width = values.shape[:2]
    before_x, before_y = math.ceil(max(0.0, -left)), math.ceil(max(0.0, -top))
    after_x, after_y = math.ceil(max(0.0, right - width)), math.ceil(max(0.0, bottom - height))
    pads = [(before_y, after_y), (before_x, after_x), *[(0, 0)] * (values.ndim - 2)]
    return np.pad(values, pads), (left + before_x, top + before_y, right + before_x, bottom + before_y)
