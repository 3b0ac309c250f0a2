"""The base of the image transforms that a library makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mmflow.plugin import TensorType, Transform, global_generators, outside_identity
from mmflow_pretrained.folders import contents

if TYPE_CHECKING:
    import numpy as np


Size = tuple[int | None, int | None]


class LibraryImage(Transform):
    """Base of the image transforms of a library: write `made` and `size`.

    An image is uint8 [H, W, 1, 3 or 4] (or floats in [0, 1], as mixed images are) and becomes float32 [C, H, W]; an
    image in this form passes unchanged. Clips and groups are processed image by image with one draw for all. In a view
    the transform comes last; an encoder of such a model applies it by default: `HfImage(hub=...).apply(value, None)`.
    """

    hub: str = outside_identity(description="a folder with the model's configuration, or a name that the library knows")

    def fingerprint(self) -> Any:
        return contents(self.hub, getattr(self, "revision", None))

    def made(self, training: bool) -> Callable[[Any], Any]:
        """The library's function from a PIL image to a tensor [C, H, W], made once and kept."""
        raise NotImplementedError

    def size(self) -> Size:
        """Height and width of the result, None where they depend on the image."""
        raise NotImplementedError

    def apply(self, value: Any, generator: Any) -> Any:
        if isinstance(value, Mapping):
            raise ValueError(f"{self.use} takes one field: give it a view of its own")
        function = self.made(generator is not None)
        seed = None if generator is None else int(generator.integers(2**32))
        return each_image(value, function, self.use, seed)

    def result(self, field: TensorType) -> TensorType:
        if field.modality not in ("image", "video"):
            raise ValueError(f"{self.use} needs images, got {field.modality}")
        self.made(training=True)
        return field.with_(size=(*field.size[:-3], *self.size(), 3), dtype="float32")


def each_image(value: Any, function: Callable[[Any], Any], use: str, seed: int | None = None) -> Any:
    """The images in a value by a library's function, drawing with `seed`: float32 [C, H, W] each.

    Images that are in this form already pass unchanged.
    """
    import numpy as np

    if isinstance(value, list):
        return [None if member is None else each_image(member, function, use, seed) for member in value]
    array = np.asarray(value)
    if array.ndim == 4:
        return np.stack([each_image(frame, function, use, seed) for frame in array])
    if array.ndim == 3 and array.dtype.kind == "f" and array.shape[0] in (1, 3) and array.shape[2] > 4:
        return array
    image = as_pil(array, use)
    with global_generators(seed):
        return np.asarray(function(image), dtype=np.float32)


def as_pil(array: np.ndarray, use: str) -> Any:
    """A raw image as a PIL image in color."""
    import numpy as np
    from PIL import Image

    if array.ndim == 3 and array.dtype.kind == "f" and array.shape[2] in (1, 3, 4):
        array = np.rint(array * 255).clip(0, 255).astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"{use} needs an image (uint8, height x width x channels), got {array.dtype} {[*array.shape]}")
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array).convert("RGB")
