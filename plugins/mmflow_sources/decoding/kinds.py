"""Kinds of files, told by their names or by how they begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus")

VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg")


STILLS = (b"avif", b"heic", b"heix", b"mif1")
"""Images in the container of videos."""


def looks_like_image(name: str) -> bool:
    return name.lower().endswith(IMAGES)


def looks_like_sound(name: str) -> bool:
    return name.lower().endswith(SOUNDS)


def looks_like_video(name: str) -> bool:
    return name.lower().endswith(VIDEOS)


def kind_of_content(cell: Any) -> Literal["image", "audio", "video"]:
    """The kind of a file in a cell, bytes or {"bytes", "path"}: told by its name, or by how it begins."""
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
