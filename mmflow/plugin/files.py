"""Files that a spec names: devices and pipes, whose end may never come, are not read."""

from __future__ import annotations

import os
from typing import Final

LARGEST_TEXT: Final = 1 << 28
"""Bytes of a file that is held as one text."""
_LOCAL: Final = ("file://", "local://")


def local_path(url: str) -> str | None:
    """The path behind a path or an fsspec URL on this machine; None for one elsewhere."""
    if "::" in url or ("://" in url and not url.startswith(_LOCAL)):
        return None
    return os.path.expanduser(url.partition("://")[2] if url.startswith(_LOCAL) else url)


def refuse_devices(url: str) -> None:
    """Raises `OSError` where a path or fsspec URL leads to a device or a pipe of this machine."""
    path = local_path(url)
    if path is not None and os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise OSError("no file (a device or a pipe)")


def text_of(url: str) -> str:
    """The UTF-8 text behind a path or fsspec URL; raises `OSError` or `ValueError` where none can be read."""
    import fsspec

    refuse_devices(url)
    with fsspec.open(url, "rb") as file:
        content: bytes = file.read(LARGEST_TEXT + 1)  # type: ignore[union-attr]
    if len(content) > LARGEST_TEXT:
        raise ValueError(f"the file is larger than {LARGEST_TEXT:,} bytes")
    return content.decode("utf-8")
