"""From the bytes of a file to a raw value, with bounds on what a small file may unfold to."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus")

VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg")


STILLS = (b"avif", b"heic", b"heix", b"mif1")
"""Pictures in the container of videos."""


def looks_like_picture(name: str) -> bool:
    return name.lower().endswith(PICTURES)


def looks_like_sound(name: str) -> bool:
    return name.lower().endswith(SOUNDS)


def looks_like_video(name: str) -> bool:
    return name.lower().endswith(VIDEOS)


def kind_of_content(cell: Any) -> Literal["image", "audio", "video"]:
    """What a file is that stands in a cell, as bytes or as {"bytes", "path"}: told by its name, or by how it begins."""
    name = str((isinstance(cell, Mapping) and cell.get("path")) or "")
    begin = ((cell.get("bytes") if isinstance(cell, Mapping) else cell) or b"")[:12]
    if (
        looks_like_sound(name)
        or begin.startswith((b"fLaC", b"OggS", b"ID3"))
        or begin[8:] in (b"WAVE", b"AIFF", b"AIFC")
    ):
        return "audio"
    if (
        looks_like_video(name)
        or (begin[4:8] == b"ftyp" and begin[8:] not in STILLS)
        or begin[:4] == b"\x1aE\xdf\xa3"
        or begin[8:] == b"AVI "
    ):
        return "video"
    return "image"


def decode_video(data: bytes, *, frames: int, max_pixels: int) -> np.ndarray:
    """Evenly spaced frames of a video (the middles of equal parts), uint8 [T, H, W, 3], T at most `frames`.

    All frames are decoded one by one and only those that are wanted are kept. Raises `ValueError`.
    """
    import numpy as np

    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise ValueError("video needs the package av: pip install 'mmflow-kit[video]'") from error
    if not data:
        raise ValueError("an empty file")
    try:
        count = 0
        with av.open(io.BytesIO(data), "r") as container:
            video = container.streams.video[0]
            if video.width * video.height * frames > max_pixels:
                raise ValueError(
                    f"{frames} frames of {video.width} x {video.height} pixels, more than `max_pixels` ({max_pixels})"
                )
            # Headers often state no number of frames, or a wrong one: packets are counted without decoding them.
            count = sum(packet.size > 0 for packet in container.demux(video))
        wanted = {int((place + 0.5) * count / frames) for place in range(frames)}
        kept = []
        with av.open(io.BytesIO(data), "r") as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    kept.append(frame.to_ndarray(format="rgb24"))
    except (FFmpegError, IndexError) as error:
        reason = error.strerror if isinstance(error, FFmpegError) else error
        raise ValueError(f"a video that cannot be decoded: {reason}") from error
    if not kept:
        raise ValueError("a video without frames")
    return np.stack(kept)


def decode_sound(data: bytes, *, rate: int, max_seconds: float) -> np.ndarray:
    """A sound as float32 [samples] in [-1, 1], channels averaged, `rate` samples a second.

    Raises `ValueError` where it cannot be decoded, or lasts longer than `max_seconds`.
    """
    import math

    import numpy as np

    try:
        import soundfile
    except ImportError as error:
        raise ValueError("sound needs the package soundfile: pip install 'mmflow-kit[audio]'") from error
    if not data:
        raise ValueError("an empty file")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            found = file.samplerate
            if file.frames > max_seconds * found:
                raise ValueError(f"a sound of {file.frames / found:.0f} s, more than `max_seconds` ({max_seconds:g})")
            values = file.read(dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        # The text of the error itself tells an address in memory.
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise ValueError(f"a sound that cannot be decoded: {reason}") from error
    if not len(values):
        raise ValueError("a sound without samples")
    values = values.mean(axis=1)
    if found != rate:
        from scipy.signal import resample_poly

        common = math.gcd(found, rate)
        values = resample_poly(values, rate // common, found // common).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("a sound that holds NaN or infinite values")
    return values


def decode_picture(data: bytes, *, max_pixels: int) -> np.ndarray:
    """A picture as uint8 [H, W, 3], turned as its camera noted; raises `ValueError` where it cannot be read."""
    import numpy as np
    from PIL import Image, ImageOps

    with _opened(data) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ValueError(f"a picture of {width} x {height} pixels, more than `max_pixels` ({max_pixels})")
        # Pillow holds the 16 bits of some formats in 32, and would cut all above 255 to white.
        deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
        if image.mode in ("I", "F") and not deep:
            raise ValueError(
                "a picture of 32-bit numbers, which have no known white: save it with 8 or 16 bits, or use `arrays`"
            )
        try:
            image.load()
            if deep:
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            image = ImageOps.exif_transpose(image).convert("RGB")
        except Exception as error:
            raise ValueError(f"a picture that cannot be decoded: {error}") from error
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
        raise ValueError("not a picture of a known format") from None
    except Exception as error:
        raise ValueError(f"a picture that cannot be opened: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
