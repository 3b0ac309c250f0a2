"""Bytes of the run store: whole trees and single objects on a local disk or on any fsspec file system.

Both forms promise the same: `write` makes an object visible whole or not at all, `put_tree` returns only after every
file has reached the storage, and `materialize` gives a directory whose files have the recorded sha256.
"""

import hashlib
import os
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from mmflow.cache import user_cache

_CHUNK = 1 << 20


class DamagedFile(Exception):
    """A stored file is missing or is not what was recorded; the message says which and how."""


@dataclass(frozen=True)
class FileRecord:
    """Length in bytes and hexadecimal sha256 of one stored file."""

    size: int
    sha256: str


def open_storage(url: str | os.PathLike[str], *, cache: Path | None = None, **options: Any) -> "Storage":
    """Storage at a local path or an fsspec URL (`memory://name`, `s3://bucket/prefix`); `options` go to fsspec."""
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    fs, root = url_to_fs(os.fspath(url), **options)
    if isinstance(fs, LocalFileSystem):
        return LocalStorage(Path(root))
    return ObjectStorage(fs, root, url=os.fspath(url), cache=cache or user_cache() / "store")


class Storage(ABC):
    """Named objects below one root; names are relative POSIX paths."""

    url: str

    @abstractmethod
    def put_tree(self, source: Path, name: str, *, move: bool) -> dict[str, FileRecord]:
        """Store every file below `source` under `name/`; returns what was stored by relative path.

        Empty directories are not kept. With `move`, `source` is used up where that saves a copy.
        """

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Store one object; a reader sees the old bytes or the new ones, never a part."""

    @abstractmethod
    def append(self, name: str, data: bytes) -> None:
        """Add to the end of an object that this process alone writes."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The bytes of one object, None where there is none."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Give one object another name; nothing happens where another process was faster."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove an object or a tree; what is not there is no error."""

    @abstractmethod
    def sizes(self, name: str) -> dict[str, int]:
        """Lengths in bytes of all files below `name`, by relative path."""

    @abstractmethod
    def children(self, name: str) -> list[str]:
        """Sorted names directly below `name`."""

    @abstractmethod
    def materialize(self, name: str, files: Mapping[str, FileRecord]) -> Path:
        """A local directory with exactly the recorded bytes of `files`; raises `DamagedFile`."""

    @abstractmethod
    def scratch(self, prefix: str) -> Path:
        """A new empty local directory whose name begins with `prefix`, below `scratch/` where the storage is local."""


class LocalStorage(Storage):
    """A directory on this machine."""

    def __init__(self, root: Path):
        self.root = root.absolute()
        self.url = str(self.root)
        # Files read once in this process are not hashed again while length and time of change stay.
        self._verified: set[tuple[str, int, int]] = set()

    def _at(self, name: str) -> Path:
        return self.root / name

    def put_tree(self, source: Path, name: str, *, move: bool) -> dict[str, FileRecord]:
        target = self._at(name)
        target.mkdir(parents=True)
        records: dict[str, FileRecord] = {}
        folders = {target}
        for relative, path in _files_below(source):
            destination = target / relative
            destination.parent.mkdir(parents=True, exist_ok=True)
            folders.add(destination.parent)
            records[relative] = _take(path, destination) if move else _copy(path, destination)
        for folder in folders:
            _sync_folder(folder)
        return records

    def write(self, name: str, data: bytes) -> None:
        path = self._at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                _sync(file)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def append(self, name: str, data: bytes) -> None:
        path = self._at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(data)

    def read(self, name: str) -> bytes | None:
        try:
            return self._at(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def rename(self, old: str, new: str) -> None:
        try:
            os.replace(self._at(old), self._at(new))
        except FileNotFoundError:
            return

    def remove(self, name: str) -> None:
        path = self._at(name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def sizes(self, name: str) -> dict[str, int]:
        base = self._at(name)
        found: dict[str, int] = {}
        for folder, _, names in os.walk(base):
            for entry in names:
                path = Path(folder, entry)
                try:
                    found[path.relative_to(base).as_posix()] = path.stat().st_size
                except FileNotFoundError:
                    # Another process has just removed it.
                    continue
        return found

    def children(self, name: str) -> list[str]:
        try:
            return sorted(entry for entry in os.listdir(self._at(name)) if not entry.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def materialize(self, name: str, files: Mapping[str, FileRecord]) -> Path:
        base = self._at(name)
        for relative, record in files.items():
            path = base / relative
            try:
                stat = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                raise DamagedFile(f"{path} is missing") from None
            mark = (str(path), stat.st_size, stat.st_mtime_ns)
            if mark not in self._verified:
                _check_file(path, record, shown=str(path))
                self._verified.add(mark)
        return base

    def scratch(self, prefix: str) -> Path:
        folder = self._at("scratch")
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=folder, prefix=prefix))


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

    def put_tree(self, source: Path, name: str, *, move: bool) -> dict[str, FileRecord]:
        records: dict[str, FileRecord] = {}
        for relative, path in _files_below(source):
            destination = self._at(f"{name}/{relative}")
            self.fs.makedirs(destination.rsplit("/", 1)[0], exist_ok=True)
            records[relative] = FileRecord(path.stat().st_size, _sha256(path))
            self.fs.put_file(str(path), destination)
        return records

    def write(self, name: str, data: bytes) -> None:
        path = self._at(name)
        self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
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
                    _check_file(copy / relative, record, shown=str(copy / relative))
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
                _check_file(target, record, shown=remote)
            try:
                os.replace(fresh, copy)
            except OSError:
                # Another process has just put the same bytes there.
                if not copy.is_dir():
                    raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return copy

    def scratch(self, prefix: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"mmflow-{prefix}"))


def _files_below(source: Path) -> Iterator[tuple[str, Path]]:
    if not source.is_dir():
        raise NotADirectoryError(f"{source} is not a directory")
    for path in sorted(source.rglob("*")):
        if path.is_file():
            yield path.relative_to(source).as_posix(), path


def safe_relative(name: str) -> bool:
    """Whether a recorded file name stays below its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _check_file(path: Path, record: FileRecord, *, shown: str) -> None:
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedFile(f"{shown} is missing") from None
    if size != record.size:
        raise DamagedFile(f"{shown} has {size} bytes, {record.size} were stored")
    if _sha256(path) != record.sha256:
        raise DamagedFile(f"{shown} does not have the sha256 that was stored")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: Path, destination: Path) -> FileRecord:
    digest = hashlib.sha256()
    size = 0
    with open(source, "rb") as reader, open(destination, "xb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
            size += len(chunk)
        _sync(writer)
    return FileRecord(size, digest.hexdigest())


def _take(source: Path, destination: Path) -> FileRecord:
    try:
        if source.is_symlink():
            raise OSError("a link is stored as what it points to")
        os.rename(source, destination)
    except OSError:
        # A link, or another disk.
        record = _copy(source, destination)
        source.unlink()
        return record
    with open(destination, "rb") as file:
        os.fsync(file.fileno())
    return FileRecord(destination.stat().st_size, _sha256(destination))


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
