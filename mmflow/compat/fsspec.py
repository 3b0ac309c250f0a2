"""Private parts of fsspec."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

VERSIONS = ">=2025.3"
"""The versions for which this module is written."""


def parent_of(fs: AbstractFileSystem, path: str) -> str:
    """The folder of a path, by the rules of its file system."""
    return fs._parent(path)
