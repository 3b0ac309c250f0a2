"""Storage: the interface of the run store to the place where its bytes lie.

Every form promises the same: `write` makes an object visible whole or not at all, `put_tree` returns only after every
file has reached the storage, and `materialize` gives a directory whose files have the recorded sha256.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


class DamagedFile(Exception):
    """A stored file is missing or differs from its record; the message says which and how."""


@dataclass(frozen=True)
class FileRecord:
    """Length in bytes and hexadecimal sha256 of one stored file."""

    size: int
    sha256: str


class Storage(ABC):
    """Named objects below one root; names are relative POSIX paths."""

    url: str

    @abstractmethod
    def put_tree(self, source: Path, name: str, *, move: bool) -> dict[str, FileRecord]:
        """Store every file below `source` under `name/`; returns the records by relative path.

        Empty directories are not kept. With `move`, `source` is used up where that saves a copy.
        """

    def give_back(self, name: str, source: Path) -> None:
        """Undo a moving `put_tree` that could not be made visible: the files that were moved lie in `source` again."""
        return

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
        """Remove an object or a tree; an absent one is no error."""

    def tidy(self, name: str) -> None:
        """Remove the folder `name` if it is empty, where the storage has folders."""
        return

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
    def unpublished(self) -> Path:
        """A local directory for results that could not be stored, on the disk of `scratch` where that is possible."""

    @abstractmethod
    def scratch(self) -> Path:
        """A local directory for scratch folders, on the disk of the storage where that is local."""


def files_below(source: Path) -> Iterator[tuple[str, Path]]:
    """Every file below a directory, with its relative name, sorted."""
    if not source.is_dir():
        raise NotADirectoryError(f"{source} is not a directory")
    for path in sorted(source.rglob("*")):
        if path.is_file():
            yield path.relative_to(source).as_posix(), path


def check_file(path: Path, record: FileRecord, *, shown: str) -> None:
    """Raises `DamagedFile` where the file differs from its record; the message calls it `shown`."""
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedFile(f"{shown} is missing") from None
    if size != record.size:
        raise DamagedFile(f"{shown} has {size} bytes, {record.size} were stored")
    try:
        digest = sha256_of(path)
    except FileNotFoundError:
        # Removed by another process between the two looks.
        raise DamagedFile(f"{shown} is missing") from None
    if digest != record.sha256:
        raise DamagedFile(f"{shown} does not have the sha256 that was stored")


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
