"""A raw image in the size and channels that an encoder takes, in plain numpy and PIL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmflow.plugin import ComponentError

if TYPE_CHECKING:
    import numpy as np


def fit_image(image: Any, size: int, channels: int, *, squash: bool) -> np.ndarray:
    """A raw image (uint8 or float in [0, 1]; HW or HWC) as an array [size, size, channels] of the same type.

    Scaling is bilinear with antialiasing. Gray images get three equal channels; colors become gray by the weights of
    ITU-R BT.601; an alpha channel is dropped. Floats [channels, size, size], as the preprocessing of other libraries
    gives them, stay unchanged.
    """
    import numpy as np
    from PIL import Image

    array = np.asarray(image)
    if array.dtype.kind == "f" and array.shape == (channels, size, size):
        return array
    planes = _planes(array, channels)
    height, width = planes.shape[:2]
    if (height, width) != (size, size):
        if squash:
            box = (0.0, 0.0, float(width), float(height))
        else:
            side = min(height, width)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
        planes = np.stack([_scaled(Image.fromarray(p), size, box) for p in np.moveaxis(planes, 2, 0)], axis=2)
    return np.ascontiguousarray(np.broadcast_to(planes, (size, size, channels)))


def keep_image(image: Any, channels: int, multiple: int) -> np.ndarray:
    """A raw image in its own size, cut around the center to multiples of `multiple`; channels as in `fit_image`.

    Floats [channels, H, W] of such a size, as the preprocessing of other libraries gives them, stay unchanged.
    """
    import numpy as np

    array = np.asarray(image)
    if array.dtype.kind == "f" and array.ndim == 3 and array.shape[0] == channels and array.shape[2] > 4:
        if array.shape[1] % multiple or array.shape[2] % multiple:
            raise _unfit(array, f"a processed image [channels, height, width] with multiples of {multiple} pixels")
        return array
    planes = _planes(array, channels)
    height, width = (side // multiple * multiple for side in planes.shape[:2])
    if not (height and width):
        raise _unfit(array, f"height and width of at least {multiple} pixels")
    top, left = (planes.shape[0] - height) // 2, (planes.shape[1] - width) // 2
    cut = planes[top : top + height, left : left + width]
    return np.ascontiguousarray(np.broadcast_to(cut, (height, width, channels)))


def _planes(array: np.ndarray, channels: int) -> np.ndarray:
    """[height, width, 1 or channels] of a raw image."""
    import numpy as np

    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise _unfit(array, "uint8 or float, [height, width] or [height, width, 1, 3 or 4]")
    planes = array[:, :, None] if array.ndim == 2 else array[:, :, :3]
    if planes.shape[2] == 3 and channels == 1:
        gray = planes @ np.array([0.299, 0.587, 0.114])
        planes = (np.rint(gray) if array.dtype == np.uint8 else gray).astype(array.dtype)[:, :, None]
    return planes


def _unfit(array: np.ndarray, expected: str) -> ComponentError:
    return ComponentError(
        f"an image of shape {list(array.shape)}", found=f"{array.dtype} {list(array.shape)}", expected=expected
    )


def _scaled(plane: Any, size: int, box: tuple[float, float, float, float]) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR, box=box))
