"""The source for a file or folder, told by its name."""

from __future__ import annotations

import posixpath
from typing import Any

from mmflow_sources.access.patterns import is_pattern

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
ARRAYS = (".npz", ".npy")


def source_at(url: str) -> dict[str, Any] | None:
    """The declaration of a source: a table, arrays, tar shards, else a folder; None for another kind of file."""
    name = posixpath.basename(url.partition("::")[0].partition("?")[0].rstrip("/")).lower()
    if name.endswith(TABLES):
        return {"use": "table", "url": url}
    if name.endswith(ARRAYS):
        return {"use": "arrays", "url": url}
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return {"use": "webdataset", "url": url}
    if is_pattern(url) or _is_folder(url):
        return {"use": "folder", "url": url}
    return None


def _is_folder(url: str) -> bool:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        return filesystem.isdir(path)
    except (OSError, ValueError, ImportError):
        return False
