"""Kinds of files, told by their names or by their first bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

IMAGES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".avif", ".avifs",
    ".heic", ".heif", ".jxl", ".tga", ".icb", ".vda", ".vst", ".ico", ".cur", ".icns", ".pcx", ".dcx", ".dds", ".sgi",
    ".bw", ".rgb", ".rgba", ".ras", ".qoi", ".psd", ".im", ".msp", ".xbm", ".xpm", ".fli", ".flc", ".pcd", ".pxr",
    ".blp", ".ftc", ".ftu", ".gbr", ".iim",
)  # fmt: skip
"""Images that Pillow reads, but for formats that need another program (.eps) or hold no image by themselves (.h5,
.fits); also images that it may lack, which are then bad samples rather than left out."""

SOUNDS = (
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64",
    ".rf64", ".voc", ".nist", ".sph", ".avr", ".htk", ".ircam", ".sf", ".paf", ".pvf", ".sds", ".sd2", ".xi", ".wve",
    ".svx", ".8svx", ".m4a", ".m4b", ".aac", ".wma", ".amr", ".ac3", ".mka",
)  # fmt: skip
"""Sounds that libsndfile reads under names of its own; also sounds that it lacks, which are then bad samples."""

VIDEOS = (
    ".mp4", ".mkv", ".webm", ".avi", ".mov", ".qt", ".m4v", ".mpg", ".mpeg", ".mpe", ".m2v", ".ts", ".mts", ".m2ts",
    ".vob", ".ogv", ".ogm", ".3gp", ".3g2", ".wmv", ".asf", ".flv", ".f4v", ".mxf", ".dv", ".y4m", ".mjpeg", ".nut",
    ".rm", ".rmvb", ".divx", ".ivf",
)  # fmt: skip

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
        or begin.startswith((b"fLaC", b"OggS", b"ID3", b".snd", b"caff"))
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
