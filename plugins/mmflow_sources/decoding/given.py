"""Content that a user hands over beside any data: decoded as sources with their default bounds decode it."""

from __future__ import annotations

from typing import Any

from mmflow.plugin import TensorType

MAX_PIXELS = 64_000_000
MAX_SECONDS = 3600.0
FRAMES = 16
"""Frames of a video whose type does not say how many."""


def decoded(modality: str, content: Any, declared: TensorType) -> Any:
    """The raw value of an image, a sound or a video in a file's bytes, or of a PIL image; None for anything else."""
    if modality == "image" and hasattr(content, "getexif"):
        from mmflow_sources.decoding.images import upright

        return upright(content, max_pixels=MAX_PIXELS)
    if not isinstance(content, bytes):
        return None
    if modality == "image":
        from mmflow_sources.decoding.images import decode_image

        return decode_image(content, max_pixels=MAX_PIXELS)
    if modality == "audio":
        from mmflow_sources.decoding.sounds import decode_sound

        return decode_sound(content, rate=declared.rate or 16_000, max_seconds=MAX_SECONDS)
    if modality == "video":
        from mmflow_sources.decoding.videos import decode_video

        frames = (declared.groups[0] if declared.groups else None) or FRAMES
        return decode_video(content, frames=frames, max_pixels=MAX_PIXELS)
    return None
