"""Notes on local files, remembered in the user's cache for as long as the stat of a file stays."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mmflow.cache import user_cache

T = TypeVar("T")

_SETTLED_NS = 2_000_000_000
"""A file that was changed less long ago may change again without a new stat."""
_MOST_FILES = 4000


class FileNotes:
    """One note a file, as plain data, under `name` in the user's cache; `save` writes new notes."""

    def __init__(self, name: str) -> None:
        self._file = user_cache() / f"{name}.json"
        self._notes: dict[str, list[Any]] | None = None
        self._fresh = False

    def of(self, path: Path, read: Callable[[Path], T]) -> T:
        """The note on `path`: the remembered one while the file is unchanged, else `read(path)`, as plain data."""
        stat = os.stat(path)
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._load().get(str(path))
        if known is not None and known[0] == mark:
            return known[1]
        note = read(path)
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS:
            self._load()[str(path)] = [mark, note]
            self._fresh = True
        return note

    def save(self) -> None:
        """Write new notes; a cache that cannot be written costs time only."""
        if not self._fresh or self._notes is None:
            return
        self._fresh = False
        if len(self._notes) > _MOST_FILES:
            self._notes = {name: note for name, note in self._notes.items() if os.path.exists(name)}
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}.tmp")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._notes, separators=(",", ":")))
            os.replace(temporary, self._file)
        except OSError:
            return

    def _load(self) -> dict[str, list[Any]]:
        if self._notes is None:
            try:
                found = json.loads(self._file.read_text())
            except (OSError, ValueError):
                found = {}
            self._notes = found if isinstance(found, dict) else {}
        return self._notes
