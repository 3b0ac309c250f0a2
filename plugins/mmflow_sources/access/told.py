"""The source for a file or folder, told by its name."""

from __future__ import annotations

import posixpath
from typing import Any

from mmflow_sources.access.patterns import is_pattern

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
ARRAYS = (".npz", ".npy")


def source_at(url: str) -> dict[str, Any] | None:
    """The declaration of a source: a table, arrays, tar shards, a saved data set, else a folder; None for
    another kind of file."""
    name = posixpath.basename(url.partition("::")[0].partition("?")[0].rstrip("/")).lower()
    if name.endswith(TABLES):
        return {"use": "table", "url": url}
    if name.endswith(ARRAYS):
        return {"use": "arrays", "url": url}
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return {"use": "webdataset", "url": url}
    if is_pattern(url):
        return {"use": "folder", "url": url}
    held = _in_folder(url)
    if held is None:
        return None
    # What `save_to_disk` writes beside the data: of one data set, of several.
    saved = held & {"dataset_info.json", "dataset_dict.json"}
    return {"use": "hf_dataset", "path": url} if saved else {"use": "folder", "url": url}


def _in_folder(url: str) -> set[str] | None:
    """Names in a folder; None where there is none."""
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        if not filesystem.isdir(path):
            return None
        return {posixpath.basename(name.rstrip("/")) for name in filesystem.ls(path, detail=False)}
    except (OSError, ValueError, ImportError):
        return None
