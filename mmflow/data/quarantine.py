"""The file that lists the samples left out by a source's policy: each once, however often and wherever it is met."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from mmflow.compat.fsspec import parent_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_lock = threading.Lock()
_known: dict[str, tuple[int, set[tuple[str, str]]]] = {}
"""By URL: the file's size after the last look at it, and its entries."""


def quarantine(url: str, source: str, id: str, reason: str) -> None:
    """Append a line `{"source": , "id": , "reason": }` to the file at `url`, unless it lists that sample already."""
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    with _lock:
        fs, path = url_to_fs(url)
        size, listed = _known.get(url, (-1, set()))
        now = _size(fs, path)
        lines = ""
        if now != size:
            # Changed since, by an earlier run or another process, or removed.
            text = fs.cat_file(path).decode("utf-8", "replace") if now else ""
            listed = _listed(text)
            # A killed run may have left half a line.
            lines = "\n" if text and not text.endswith("\n") else ""
        if (source, id) not in listed:
            lines += json.dumps({"source": source, "id": id, "reason": reason}, ensure_ascii=False) + "\n"
            listed.add((source, id))
        if lines:
            if isinstance(fs, LocalFileSystem):
                fs.makedirs(parent_of(fs, path), exist_ok=True)
            with fs.open(path, "ab") as file:
                file.write(lines.encode())  # type: ignore[arg-type]
            now = _size(fs, path)
        _known[url] = now, listed


def _size(fs: AbstractFileSystem, path: str) -> int:
    fs.invalidate_cache()
    try:
        return int(fs.info(path)["size"])
    except FileNotFoundError:
        return 0


def _listed(text: str) -> set[tuple[str, str]]:
    found = set()
    for line in text.splitlines():
        try:
            row = json.loads(line)
            found.add((str(row.get("source", "")), str(row["id"])))
        except (ValueError, KeyError, AttributeError):
            continue
    return found


__all__ = ["quarantine"]
