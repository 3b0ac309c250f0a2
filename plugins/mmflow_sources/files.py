"""Files on any filesystem: opened by URL, kept under one root, read with patience, fingerprinted."""

from __future__ import annotations

import hashlib
import posixpath
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from fsspec.core import url_to_fs

from mmflow.plugin import ComponentError

T = TypeVar("T")

SMALL_FILES = 4000
SMALL_BYTES = 256 * 2**20
"""Up to so many files and bytes a fingerprint is a hash of the content; above, of sizes and times (or etags)."""

MARKS = ("ETag", "etag", "md5Hash", "checksum", "mtime", "LastModified", "created")
"""What filesystems call the mark of a file's version."""


class Folder:
    """A root folder on any fsspec filesystem. Picklable; a worker opens its own connection.

    Paths are relative to the root; what leads out of it is refused.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") or url
        self._fs: Any = None
        self._root = ""

    def __getstate__(self) -> Mapping[str, Any]:
        return {"url": self.url, "_fs": None, "_root": ""}

    @property
    def fs(self) -> Any:
        if self._fs is None:
            self._fs, self._root = open_url(self.url)
        return self._fs

    @property
    def root(self) -> str:
        return self._root if self.fs is not None else ""

    @property
    def in_process(self) -> bool:
        """True where the files live in this process's memory, which no worker sees."""
        return "memory" in protocols(self.fs)

    def path(self, name: str) -> str:
        """The filesystem's path of `name`; raises `ValueError` where it leaves the root."""
        root = self.root
        if "://" in name or "::" in name:
            raise ValueError(f"{name!r} is a URL: paths are relative to {self.url}")
        inside = posixpath.normpath(name)
        if posixpath.isabs(inside) and root and (inside == root or inside.startswith(root.rstrip("/") + "/")):
            return inside
        if posixpath.isabs(inside) or inside == ".." or inside.startswith("../") or "\0" in inside:
            raise ValueError(f"{name!r} leaves {self.url} (`root:` says where paths begin)")
        return posixpath.join(root, inside) if root else inside

    def read(self, name: str) -> bytes:
        """The content of a file; raises `FileNotFoundError`, or `OSError` once patience is over."""
        path = self.path(name)
        return patiently(lambda: self.fs.cat_file(path), self.fs)

    def open(self, name: str, mode: str = "rb") -> Any:
        path = self.path(name)
        return patiently(lambda: self.fs.open(path, mode), self.fs)

    def fingerprint(self, names: Iterable[str]) -> str:
        """A hash of the content of these files where they are few and small, else of what the listing says."""
        digest = hashlib.sha256()
        unique = sorted(set(names))
        infos = {name: self._info(name) for name in unique} if len(unique) <= SMALL_FILES else self._listing(unique)
        small = len(unique) <= SMALL_FILES and sum(int(i.get("size") or 0) for i in infos.values()) <= SMALL_BYTES
        # Files over a network are told by what the server says of them: reading them all costs as much as using them.
        local = bool({"file", "local", "memory"} & set(protocols(self.fs)))
        for name in unique:
            info = infos.get(name, {})
            digest.update(f"{name}\0".encode())
            if small and local and info:
                digest.update(hashlib.sha256(self.read(name)).digest())
            else:
                mark = next((info[key] for key in MARKS if info.get(key)), "")
                digest.update(f"{info.get('size')}\0{mark}\0".encode())
        return digest.hexdigest()[:32]

    def _info(self, name: str) -> Mapping[str, Any]:
        try:
            return self.fs.info(self.path(name))
        except (OSError, ValueError):
            return {}

    def _listing(self, names: list[str]) -> dict[str, Mapping[str, Any]]:
        try:
            found = self.fs.find(self.root, detail=True)
        except (OSError, NotImplementedError):
            return {}
        by_path = {path.lstrip("/"): info for path, info in found.items()}
        listed = {}
        for name in names:
            try:
                info = by_path.get(self.path(name).lstrip("/"))
            except ValueError:
                continue
            if info:
                listed[name] = info
        return listed


def open_url(url: str) -> tuple[Any, str]:
    """The filesystem and path behind a URL; raises `ComponentError` where its protocol is not installed."""
    try:
        return url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ComponentError(
            f"{url}: {error}", found=url, expected="a path or a URL that fsspec opens", hint="is its package installed?"
        ) from error


def split_url(url: str) -> tuple[str, str]:
    """The folder's URL and the file's name: of `zip://a/b.csv::x.zip`, `zip://a::x.zip` and `b.csv`."""
    first, chain, rest = url.partition("::")
    head, slash, name = first.rpartition("/")
    if not slash:
        return "." + chain + rest, first
    if head.endswith("/"):
        head += "/"
    return (head or "/") + chain + rest, name


def protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def patiently(read: Callable[[], T], fs: Any, tries: int = 4, first: float = 0.2) -> T:
    """`read()`, tried again with growing pauses where a network may have failed; a missing file is final."""
    final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
    network = not ({"file", "local", "memory", "zip", "tar"} & set(protocols(fs)))
    for attempt in range(tries):
        try:
            return read()
        except final:
            raise
        except (OSError, TimeoutError) as error:
            if not network:
                raise
            if attempt == tries - 1:
                raise OSError(f"{error or type(error).__name__} (tried {tries} times)") from error
            time.sleep(first * 2**attempt)
        except Exception as error:
            # Clients of HTTP and S3 have exceptions of their own for a dropped connection.
            if not network or attempt == tries - 1:
                raise OSError(f"{type(error).__name__}: {error}") from error
            time.sleep(first * 2**attempt)
    raise AssertionError("unreachable")


__all__ = ["Folder", "open_url", "patiently", "protocols", "split_url"]
