"""Private parts of fsspec, options of its file systems that no common interface has, and files with their type."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

VERSIONS = ">=2025.3"
"""The versions for which this module is written."""


def parent_of(fs: AbstractFileSystem, path: str) -> str:
    """The folder of a path, by the rules of its file system."""
    return fs._parent(path)


def opened(url: str) -> AbstractContextManager[IO[bytes]]:
    """The bytes behind a path or an fsspec URL, to be read in a `with` block."""
    import fsspec

    return cast("AbstractContextManager[IO[bytes]]", fsspec.open(url, "rb"))


def filesystem_of(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system behind a path or an fsspec URL, and the path in it. Raises `ValueError` and `ImportError`."""
    from fsspec.core import url_to_fs

    return url_to_fs(url)


def short_patience(url: str) -> dict[str, Any]:
    """Options that let a silent server fail within a minute, where fsspec's own settings do not say otherwise."""
    from fsspec.config import conf

    protocol = url.partition("://")[0]
    if protocol not in ("s3", "s3a") or "config_kwargs" in conf.get("s3", {}):
        return {}
    # s3fs itself tries five times.
    return {"config_kwargs": {"connect_timeout": 5, "read_timeout": 10, "retries": {"total_max_attempts": 1}}}
