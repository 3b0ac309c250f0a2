"""Images: three channels of eight bits, upright."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PilImage


def decode_image(data: bytes, *, max_pixels: int) -> np.ndarray:
    """An image as uint8 [H, W, 3], turned as its camera noted; raises `ValueError` where it cannot be read."""
    with _opened(data) as image:
        return upright(image, max_pixels=max_pixels)


def upright(image: PilImage, *, max_pixels: int) -> np.ndarray:
    """A PIL image as `decode_image` gives it."""
    import numpy as np
    from PIL import Image, ImageOps

    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(f"an image of {width} x {height} pixels, more than `max_pixels` ({max_pixels})")
    # Pillow holds the 16 bits of some formats in 32, and would cut all above 255 to white.
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("I", "F") and not deep:
        raise ValueError(
            "an image of 32-bit numbers, which have no known white: save it with 8 or 16 bits, or use `arrays`"
        )
    try:
        image.load()
        if deep:
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        image = ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:
        raise ValueError(f"an image that cannot be decoded: {error}") from error
    return np.asarray(image)


def _opened(data: bytes) -> Any:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ValueError("an empty file")
    # The bound is the source's; Pillow's own would warn first and refuse later.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ValueError("not an image of a known format") from None
    except Exception as error:
        raise ValueError(f"an image that cannot be opened: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
