"""A storage whose failures are one short message each, and cost little time once it is known to be out of reach."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mmflow.flow.store.errors import StoreError
from mmflow.flow.store.storage import DamagedFile, FileRecord, Storage

OUT_OF_REACH = 30.0
"""Seconds for which a storage that did not answer is not asked again."""
_LONGEST = 300


class GuardedStorage(Storage):
    """Passes everything on to another storage; raises `StoreError` where that fails, whatever it raises itself."""

    def __init__(self, inner: Storage):
        self._inner = inner
        self.url = inner.url
        self._failure = ""
        self._failed_at = 0.0

    @contextmanager
    def _guarded(self, doing: str) -> Iterator[None]:
        if self._failure and time.monotonic() - self._failed_at < OUT_OF_REACH:
            raise StoreError(f"cannot {doing} in {self.url}: {self._failure}")
        try:
            yield
        except (DamagedFile, StoreError):
            raise
        except Exception as error:
            said = _first_line(error)
            self._failure, self._failed_at = ("" if _has_answered(error) else said), time.monotonic()
            raise StoreError(f"cannot {doing} in {self.url}: {said}") from error
        else:
            self._failure = ""

    def put_tree(self, source: Path, name: str, *, move: bool) -> dict[str, FileRecord]:
        with self._guarded("store files"):
            return self._inner.put_tree(source, name, move=move)

    def give_back(self, name: str, source: Path) -> None:
        with self._guarded("give files back"):
            self._inner.give_back(name, source)

    def write(self, name: str, data: bytes) -> None:
        with self._guarded(f"write {name}"):
            self._inner.write(name, data)

    def append(self, name: str, data: bytes) -> None:
        with self._guarded(f"write {name}"):
            self._inner.append(name, data)

    def read(self, name: str) -> bytes | None:
        with self._guarded(f"read {name}"):
            return self._inner.read(name)

    def rename(self, old: str, new: str) -> None:
        with self._guarded(f"rename {old}"):
            self._inner.rename(old, new)

    def remove(self, name: str) -> None:
        with self._guarded(f"remove {name}"):
            self._inner.remove(name)

    def tidy(self, name: str) -> None:
        with self._guarded(f"remove {name}"):
            self._inner.tidy(name)

    def sizes(self, name: str) -> dict[str, int]:
        with self._guarded(f"list {name}"):
            return self._inner.sizes(name)

    def children(self, name: str) -> list[str]:
        with self._guarded(f"list {name}"):
            return self._inner.children(name)

    def materialize(self, name: str, files: Mapping[str, FileRecord]) -> Path:
        with self._guarded(f"read {name}"):
            return self._inner.materialize(name, files)

    def unpublished(self) -> Path:
        return self._inner.unpublished()

    def scratch(self) -> Path:
        with self._guarded("make a folder for results"):
            return self._inner.scratch()


def _has_answered(error: Exception) -> bool:
    """Whether the storage is there: a full disk, a missing bucket, a refused key answer at once, only silence costs."""
    if isinstance(error, TimeoutError | ConnectionError) or "Timeout" in type(error).__name__:
        return False
    return isinstance(error, OSError)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else "no reason was given"
    return f"{type(error).__name__}: {text[:_LONGEST]}"
