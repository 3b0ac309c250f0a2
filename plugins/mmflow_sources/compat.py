"""Private parts of other libraries that the sources rely on, each with the versions in which it was seen."""

from __future__ import annotations

import tarfile
from typing import Any

DATASETS = ">=4,<6"
"""Versions of `datasets` in which a data set has `_fingerprint`."""
S3FS = ">=2025.3,<2027"
"""Versions of `s3fs` whose filesystem tries a request `retries` times."""


def content_mark(dataset: Any) -> str:
    """A mark of the content of a `datasets.Dataset`, which changes with it."""
    return str(dataset._fingerprint)


def try_once(filesystem: Any) -> None:
    """Make a filesystem of s3fs try each request once: tries are counted in one place, by `Patience`."""
    filesystem.retries = 1


def forget_members(tar: tarfile.TarFile) -> None:
    """Drop the headers that an open tar file keeps: they would add up over a large shard."""
    tar.members.clear()  # type: ignore[attr-defined]
