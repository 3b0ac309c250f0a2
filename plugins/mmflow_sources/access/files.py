"""Files on any filesystem: opened by URL, kept under one root, read with patience, fingerprinted."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from fsspec.core import url_to_fs

from mmflow.plugin import ComponentError
from mmflow_sources.access.network import (
    CACHES,
    NetworkError,
    Patience,
    RemoteFile,
    chain,
    client_options,
    is_remote,
    patiently,
)
from mmflow_sources.compat import try_once
from mmflow_sources.names import shown

T = TypeVar("T")

SMALL_FILES = 4000
SMALL_BYTES = 256 * 2**20
"""Up to so many files and bytes a fingerprint is a hash of the content; above, of sizes and times (or etags)."""

UNFOLDED = 64 * 2**20
"""Up to so many bytes a file may unfold from anything."""

MARKS = (
    "ETag", "etag", "md5Hash", "Content-MD5", "checksum", "md5", "sha256", "mtime", "LastModified", "Last-Modified",
    "last_modified", "last_commit", "updated", "created",
)  # fmt: skip
"""Names that filesystems give to the mark of a file's version."""

PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs",
            "hf": "huggingface_hub", "abfs": "adlfs", "az": "adlfs", "sftp": "paramiko", "ssh": "paramiko"}  # fmt: skip
"""Packages to install for protocols whose filesystem is missing."""


class Folder:
    """A root folder on any fsspec filesystem. Picklable; a worker opens its own connection.

    Paths are relative to the root; paths that lead out of it are refused. Over a network every read is bounded
    and tried again, as `patience` says.
    """

    def __init__(
        self, url: str, patience: Patience | None = None, *, links: bool = False, max_ratio: float = 200
    ) -> None:
        import fsspec.config

        self.url = url.rstrip("/") or url
        self.patience = patience or Patience()
        self.links, self.max_ratio = links, max_ratio
        self.remote = is_remote(self.url)
        # Carried to the workers, whose processes may have begun before it was set.
        self._config = {protocol: dict(options) for protocol, options in fsspec.config.conf.items()}
        self._fs: Any = None
        self._root = ""
        self._fresh = False

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_fs": None, "_root": ""}

    @property
    def fs(self) -> Any:
        if self._fs is None:
            self._fs, self._root = open_url(self.url, self.patience, self._config, fresh=self._fresh)
        return self._fs

    @property
    def root(self) -> str:
        return self._root if self.fs is not None else ""

    @property
    def in_process(self) -> bool:
        """True where the files live in this process's memory, which no worker sees."""
        return "memory" in chain(self.url)

    @property
    def on_disk(self) -> bool:
        """True where `path` gives a path of this machine."""
        return chain(self.url)[-1] in ("", "file", "local") and "::" not in self.url

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
        if chain(self.url)[-1] in ("http", "https") and "::" not in self.url:
            inside = quote(inside, safe="/%?&=:+,;@~!$'()*")
        return posixpath.join(root, inside) if root else inside

    def read(self, name: str, most: int | None = None, bound: str = "max_bytes", *, anywhere: bool = False) -> bytes:
        """The content of a file; raises `FileNotFoundError`, or `OSError` once patience is over.

        Raises `ValueError` where the file holds more than `most` bytes, which the field `bound` of the source says,
        and for anything but a file. Links out of the folder are followed where they may lead `anywhere`.
        """

        def read() -> bytes:
            path = self.path(name)
            if fault := self.no_file(name, anywhere=anywhere):
                raise ValueError(f"{name!r} is {fault}")
            # A server is not asked twice for one file.
            asked = most is not None and not (self.remote and "::" not in self.url)
            info = self.fs.info(path) if asked else {}
            size = info.get("size") or 0
            if info.get("compress_size") is not None:
                check_unfolding(name, info["compress_size"], size, self.max_ratio)
            data = self.fs.cat_file(path) if most is None or size <= most else b""
            if most is not None and max(size, len(data)) > most:
                raise ValueError(f"{name!r} holds {max(size, len(data))} bytes, more than `{bound}` ({most})")
            return data

        return self._patiently(read, name)

    def no_file(self, name: str, *, anywhere: bool = False) -> str:
        """The reason why a name on this machine is not read, though something is there; empty for files.

        Devices and pipes would never end. Links are followed inside the folder, or anywhere where `links` says so.
        """
        if not self.on_disk:
            return ""
        path = self.path(name)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            if os.path.islink(path):
                return "a link that leads nowhere"
            raise
        if stat.S_ISDIR(status.st_mode):
            if os.path.islink(path):
                return "a link to a folder, which is not entered"
            raise IsADirectoryError(path)
        if not stat.S_ISREG(status.st_mode):
            return "no file (a device or a pipe)"
        if anywhere or self.links:
            return ""
        root = os.path.realpath(self.root)
        inside = os.path.realpath(path).startswith(root.rstrip(os.sep) + os.sep)
        return "" if inside else "a link out of the folder (`links: true` follows it)"

    def open(self, name: str, block: int = 2**20) -> Any:
        """A file to read from any place, binary. Over a network at least `block` bytes are fetched at a time."""
        if fault := self.no_file(name, anywhere=True):
            raise ValueError(f"{name!r} is {fault}")
        if "::" in self.url:
            info = self.info(name)
            if info.get("compress_size") is not None:
                check_unfolding(name, info["compress_size"], info.get("size") or 0, self.max_ratio)
        if self.remote:
            return RemoteFile(
                lambda: self.fs.open(self.path(name), "rb", block_size=block),
                self._named(name), self.patience, self._reconnect,
            )  # fmt: skip
        return self.fs.open(self.path(name), "rb")

    def info(self, name: str) -> Mapping[str, Any]:
        """Facts of a file (`size`, marks of its version) as its filesystem states them; raises as `read` does."""
        return self._patiently(lambda: self.fs.info(self.path(name)), name)

    def version(self, name: str) -> str:
        """A mark that changes with the file, cheaply found; raises as `read` does."""
        return version(self.info(name))

    def find(self) -> dict[str, Mapping[str, Any]]:
        """All files below the root, sorted, with the facts that the filesystem states."""

        def find() -> Any:
            self.fs.invalidate_cache()
            return self.fs.find(self.root, detail=True)

        bare = (self.root.rstrip("/") + "/").lstrip("/")
        found = self._patiently(find, "")
        if self.root and self.root in found:
            raise NotADirectoryError(f"{self.url} is a file, no folder")
        names = {path.lstrip("/").removeprefix(bare): info for path, info in sorted(found.items())}
        if chain(self.url)[0] in ("http", "https"):
            # Pages of a listing name files as URLs do.
            return {unquote(name): info for name, info in names.items() if "?" not in name}
        return names

    def entries(self) -> list[tuple[str, bool]]:
        """Names in the root folder, sorted, each with whether it is a folder."""

        def entries() -> Any:
            self.fs.invalidate_cache()
            return self.fs.ls(self.root, detail=True)

        found = self._patiently(entries, "")
        web = chain(self.url)[0] in ("http", "https")
        names = ((posixpath.basename(str(info["name"]).rstrip("/")), info.get("type") == "directory") for info in found)
        return sorted((unquote(name) if web else name, is_folder) for name, is_folder in names)

    def fingerprint(self, names: Iterable[str]) -> str:
        """A hash of the content of these files where they are few and small, else of the listing.

        Raises `ComponentError` where a server does not answer.
        """
        try:
            return self._fingerprint(names)
        except NetworkError as error:
            raise ComponentError(str(error), found=self.url, expected="a server that answers") from error

    def _fingerprint(self, names: Iterable[str]) -> str:
        digest = hashlib.sha256()
        infos = self._infos(names)
        hashed = self._hashed(infos)
        for name, info in infos.items():
            digest.update(f"{name}\0".encode("utf-8", "surrogatepass"))
            if hashed and info:
                digest.update(hashlib.sha256(self.read(name)).digest())
            else:
                mark = next((info[key] for key in MARKS if info.get(key)), "")
                digest.update(f"{info.get('size')}\0{mark}\0".encode())
        return digest.hexdigest()[:32]

    def not_hashed(self, names: Iterable[str]) -> tuple[int, int]:
        """How many files of this machine, of how many bytes, `fingerprint` knows by the listing alone."""
        infos = {} if self.remote else self._infos(names)
        return (0, 0) if self._hashed(infos) or self.remote else (len(infos), _bytes(infos))

    def absent(self, names: Iterable[str]) -> set[str]:
        """Those of the names that are no file here; none of a folder over a network, which is not asked."""
        return set() if self.remote else {name for name, info in self._infos(names).items() if not info}

    def _infos(self, names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """The facts of files, sorted by name; empty where there is no such file."""
        unique = sorted(set(names))
        if len(unique) <= SMALL_FILES:
            return {name: self._info(name) for name in unique}
        listing = self._listing(unique)
        return {name: listing.get(name, {}) for name in unique}

    def _hashed(self, infos: Mapping[str, Mapping[str, Any]]) -> bool:
        # Reading files over a network costs as much as using them: the server's facts stand for them.
        return not self.remote and len(infos) <= SMALL_FILES and _bytes(infos) <= SMALL_BYTES

    def _info(self, name: str) -> Mapping[str, Any]:
        try:
            return self.info(name)
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError):
            return {}

    def _listing(self, names: list[str]) -> dict[str, Mapping[str, Any]]:
        try:
            found = self.find()
        except (FileNotFoundError, NotImplementedError):
            return {}
        return {name: info for name in names if (info := found.get(posixpath.normpath(name)))}

    def _patiently(self, read: Callable[[], T], name: str) -> T:
        if not self.remote:
            return read()
        return patiently(read, self._named(name), self.patience, self._reconnect)

    def _named(self, name: str) -> str:
        head, mark, rest = self.url.partition("::")
        return f"{head.rstrip('/') if name else head}/{without_query(name)}{mark}{rest}".rstrip("/")

    def _reconnect(self) -> None:
        """An archive over a network keeps its connection: it is opened again after a failure."""
        if "::" in self.url:
            self._fs, self._fresh = None, True


def _bytes(infos: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(int(info.get("size") or 0) for info in infos.values())


def without_query(name: str) -> str:
    """A file's name for messages, without the part after a question mark, which may be a signature."""
    return shown(name.partition("?")[0])


def version(info: Mapping[str, Any]) -> str:
    """The facts of a file that change with it."""
    return "\0".join(str(info[key]) for key in ("size", "ino", *MARKS) if info.get(key))


def open_url(url: str, patience: Patience, config: Mapping[str, Any], *, fresh: bool = False) -> tuple[Any, str]:
    """The filesystem and path behind a URL; raises `ComponentError` where its protocol is not installed."""
    try:
        options: dict[str, Any] = client_options(url, patience, config)
        fs, path = url_to_fs(url, **options, **({"skip_instance_cache": True} if fresh else {}))
    except (ImportError, ValueError) as error:
        hint = "is its package installed?"
        if isinstance(error, ImportError):
            hint = next((f"pip install {PACKAGES[name]}" for name in chain(url) if name in PACKAGES), hint)
        raise ComponentError(
            f"{url}: {error}", found=url, expected="a path or a URL that fsspec opens", hint=hint
        ) from error
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise ComponentError(f"{url}: {error}", found=url, expected="an archive that can be read") from error
    if {"s3", "s3a"} & set(_protocols(fs)):
        try_once(fs)
    fs.invalidate_cache()
    return fs, path


def check_unfolding(name: str, packed: int, unfolded: int, ratio: float) -> None:
    """Refuse a file of more than 64 MB once unfolded that is `ratio` times smaller before; raises `ValueError`."""
    if unfolded > UNFOLDED and unfolded > ratio * packed:
        raise ValueError(f"{name!r} unfolds from {packed} to {unfolded} bytes, more than {ratio:g} times (`max_ratio`)")


def split_url(url: str) -> tuple[str, str]:
    """The folder's URL and the file's name: of `zip://a/b.csv::x.zip`, `zip://a::x.zip` and `b.csv`."""
    first, link, rest = url.partition("::")
    if first in CACHES and link:
        parent, name = split_url(rest)
        return f"{first}::{parent}", name
    # A signature, which may hold slashes, belongs to the name.
    place, mark, query = first.partition("?") if first.startswith(("http://", "https://")) else (first, "", "")
    head, slash, name = place.rpartition("/")
    if not slash:
        return "." + link + rest, first
    if head.endswith("/"):
        head += "/"
    return (head or "/") + link + rest, name + mark + query


def shard_names(urls: Sequence[str]) -> list[str]:
    """Names of shards that differ, without their folders where those are not needed."""
    files = [split_url(url)[1] for url in urls]
    return files if len(set(files)) == len(files) else [f"{place}/{name}" for place, name in enumerate(files)]


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


__all__ = ["Folder", "shard_names", "split_url", "version", "without_query"]
