"""The run store on a disk of this machine."""

import contextlib
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from mmflow.flow.store.storage import DamagedFile, FileRecord, Storage, check_file, files_below, sha256_of

_CHUNK = 1 << 20
_TRIES = 100


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
        _make_folder(target)
        records: dict[str, FileRecord] = {}
        folders = {target}
        for relative, path in files_below(source):
            destination = target / relative
            destination.parent.mkdir(parents=True, exist_ok=True)
            folders.add(destination.parent)
            records[relative] = _take(path, destination) if move else _copy(path, destination)
        for folder in folders:
            _sync_folder(folder)
        return records

    def give_back(self, name: str, source: Path) -> None:
        for relative, path in files_below(self._at(name)) if self._at(name).is_dir() else ():
            target = source / relative
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(path, target)

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
        path = self._at(name)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                # A pipe or a device would be waited for.
                raise OSError(f"{path} is no file")
            return path.read_bytes()
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

    def tidy(self, name: str) -> None:
        # Fails where something is in it, which another process may just have put there.
        with contextlib.suppress(OSError):
            os.rmdir(self._at(name))

    def sizes(self, name: str) -> dict[str, int]:
        base = self._at(name)
        found: dict[str, int] = {}
        for folder, _, names in os.walk(base):
            for entry in names:
                path = Path(folder, entry)
                try:
                    found[path.relative_to(base).as_posix()] = path.stat().st_size
                except OSError:
                    # Another process has just removed it, or it is a link that leads nowhere.
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
                facts = path.stat()
            except OSError:
                raise DamagedFile(f"{path} is missing") from None
            if not stat.S_ISREG(facts.st_mode):
                raise DamagedFile(f"{path} is no file")
            mark = (str(path), facts.st_size, facts.st_mtime_ns)
            if mark not in self._verified:
                check_file(path, record, shown=str(path))
                self._verified.add(mark)
        return base

    def unpublished(self) -> Path:
        return self._at("unpublished")

    def scratch(self) -> Path:
        folder = self._at("scratch")
        folder.mkdir(parents=True, exist_ok=True)
        # Made before it is needed: a full disk has no room for a folder.
        self.unpublished().mkdir(exist_ok=True)
        return folder


def _make_folder(folder: Path) -> None:
    """Make a new folder; another process may tidy an empty parent away at any moment."""
    for _ in range(_TRIES):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            return
        except FileNotFoundError:
            continue
    folder.mkdir(parents=True)


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
            raise OSError("a link is stored as its target")
        os.rename(source, destination)
    except OSError:
        # A link, or another disk.
        record = _copy(source, destination)
        source.unlink()
        return record
    with open(destination, "rb") as file:
        os.fsync(file.fileno())
    return FileRecord(destination.stat().st_size, sha256_of(destination))


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
