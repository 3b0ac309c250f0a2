"""The run store on any fsspec file system, such as an object store."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmflow.flow.store.storage import DamagedFile, FileRecord, Storage, check_file, files_below, sha256_of

_WITH_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "cos", "obs", "r2"})


class ObjectStorage(Storage):
    """Any fsspec file system; trees are read through a local copy under `cache`."""

    def __init__(self, fs: Any, root: str, *, url: str, cache: Path):
        self.fs = fs
        self.root = root.rstrip("/")
        self.url = url
        self.cache = cache / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._appended: dict[str, bytearray] = {}

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _make_folder(self, path: str) -> None:
        # An object store has none: there it would make a bucket of a mistyped name.
        protocols = {self.fs.protocol} if isinstance(self.fs.protocol, str) else set(self.fs.protocol)
        if not protocols & _WITH_BUCKETS:
            self.fs.makedirs(path, exist_ok=True)

    def put_tree(self, source: Path, name: str, *, move: bool) -> dict[str, FileRecord]:
        records: dict[str, FileRecord] = {}
        for relative, path in files_below(source):
            destination = self._at(f"{name}/{relative}")
            self._make_folder(destination.rsplit("/", 1)[0])
            records[relative] = FileRecord(path.stat().st_size, sha256_of(path))
            self.fs.put_file(str(path), destination)
        return records

    def write(self, name: str, data: bytes) -> None:
        path = self._at(name)
        self._make_folder(path.rsplit("/", 1)[0])
        self.fs.pipe_file(path, data)

    def append(self, name: str, data: bytes) -> None:
        if name not in self._appended:
            self._appended[name] = bytearray(self.read(name) or b"")
        self._appended[name] += data
        self.write(name, bytes(self._appended[name]))

    def read(self, name: str) -> bytes | None:
        try:
            return self.fs.cat_file(self._at(name))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def rename(self, old: str, new: str) -> None:
        try:
            self.fs.mv(self._at(old), self._at(new))
        except FileNotFoundError:
            return

    def remove(self, name: str) -> None:
        try:
            self.fs.rm(self._at(name), recursive=True)
        except FileNotFoundError:
            return

    def sizes(self, name: str) -> dict[str, int]:
        self.fs.invalidate_cache()
        base = self._at(name)
        try:
            found = self.fs.find(base, detail=True)
        except FileNotFoundError:
            return {}
        prefix = base.lstrip("/") + "/"
        return {path.lstrip("/").removeprefix(prefix): int(info["size"]) for path, info in found.items()}

    def children(self, name: str) -> list[str]:
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self._at(name), detail=False)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)

    def materialize(self, name: str, files: Mapping[str, FileRecord]) -> Path:
        copy = self.cache / name
        if copy.is_dir():
            try:
                for relative, record in files.items():
                    check_file(copy / relative, record, shown=str(copy / relative))
            except DamagedFile:
                shutil.rmtree(copy, ignore_errors=True)
            else:
                return copy
        copy.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=copy.parent))
        try:
            for relative, record in files.items():
                target = fresh / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                remote = self._at(f"{name}/{relative}")
                try:
                    self.fs.get_file(remote, str(target))
                except FileNotFoundError:
                    raise DamagedFile(f"{remote} is missing") from None
                check_file(target, record, shown=remote)
            try:
                os.replace(fresh, copy)
            except OSError:
                # Another process has just put the same bytes there.
                if not copy.is_dir():
                    raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return copy

    def unpublished(self) -> Path:
        return self.cache / "unpublished"

    def scratch(self) -> Path:
        return self.cache / "scratch"
