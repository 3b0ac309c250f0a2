"""Reading over a network: bounded waits, tries with growing pauses, and one error that says what was tried."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

HERE = frozenset({"", "file", "local", "memory", "zip", "tar", "libarchive", "dir", "data"})
CACHES = frozenset({"simplecache", "filecache", "blockcache", "cached"})
"""Protocols of fsspec that keep a copy of what the next protocol in the chain gives."""
BOUNDED = frozenset({"http", "https", "s3", "s3a"})
"""Protocols whose clients are told to give up after `timeout` seconds of silence."""
LONGEST_REQUEST = 600.0
"""Seconds after which a request of another client, which may have no bound of its own, is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 15.0

FINAL = (PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, ValueError, TypeError)
PASSING = frozenset({408, 425, 429})
"""Answers of the 400s that ask to come again later."""


class NetworkError(OSError):
    """A server did not answer, or not well, for as long as it was waited for."""


@dataclass(frozen=True)
class Patience:
    """How long a network is waited for.

    A request is given up after `timeout` seconds of silence; a read that failed is tried again, with pauses that
    double, until `retry_for` seconds have passed since it first failed.
    """

    timeout: float = 20.0
    retry_for: float = 60.0


def chain(url: str) -> tuple[str, ...]:
    """The protocols of a URL, outermost first: `zip` and `https` of `zip://a::https://b/c.zip`."""
    *outer, last = url.split("::")
    # A last part without "://" is a path, however it is called.
    names = [part.partition("://")[0] if "://" in part or part.isidentifier() else "" for part in outer]
    return (*names, last.partition("://")[0] if "://" in last else "")


def is_remote(url: str) -> bool:
    """Whether reading from this URL may need a network."""
    return any(protocol not in HERE | CACHES for protocol in chain(url))


def client_options(url: str, patience: Patience, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options by protocol for `fsspec.core.url_to_fs`: the user's own, and limits on how long a server may be silent.

    `config` is like `fsspec.config.conf`. Raises what fsspec raises for protocols that it lacks.
    """
    from fsspec.config import apply_config
    from fsspec.registry import get_filesystem_class

    options: dict[str, dict[str, Any]] = {}
    for protocol in dict.fromkeys(filter(None, chain(url))):
        found = apply_config(get_filesystem_class(protocol), {}, dict(config))
        if protocol in ("http", "https"):
            from aiohttp import ClientTimeout

            silence = ClientTimeout(total=None, sock_connect=patience.timeout, sock_read=patience.timeout)
            found["client_kwargs"] = {"timeout": silence, **found.get("client_kwargs", {})}
        elif protocol in ("s3", "s3a"):
            limits: dict[str, Any] = {"connect_timeout": patience.timeout, "read_timeout": patience.timeout}
            # Tries are counted in one place: below.
            limits["retries"] = {"total_max_attempts": 1}
            found["config_kwargs"] = {**limits, **found.get("config_kwargs", {})}
        if found:
            options[protocol] = found
    return options


def patiently(read: Callable[[], T], url: str, patience: Patience, failed: Callable[[], None] = lambda: None) -> T:
    """`read()`, tried again while a network may be at fault; `failed` is called before each new try.

    A file that is not there, or may not be read, is an answer: it is raised as it is, or as `OSError`. Else raises
    `NetworkError` with the URL, the number of tries, the time that they took and the last reason.
    """
    bound = None if BOUNDED.issuperset(set(chain(url)) - HERE - CACHES) else LONGEST_REQUEST
    began, first, pause, tries = time.monotonic(), None, FIRST_PAUSE, 0
    while True:
        tries += 1
        try:
            return read() if bound is None else _within(bound, read)
        except Exception as error:
            if _is_final(error):
                raise
            now = time.monotonic()
            first = now if first is None else first
            reason = _reason(error)
            if _refused(error):
                raise OSError(f"{url}: {reason}") from error
            if now + pause - first > patience.retry_for:
                times = f"{tries} times" if tries > 1 else "once"
                raise NetworkError(f"{url}: {reason} (tried {times} in {now - began:.1f} s)") from error
            log.warning("%s: %s; trying again in %g s", url, reason, pause)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
        failed()


def _within(seconds: float, read: Callable[[], T]) -> T:
    """`read()` in a thread of its own, left behind where it takes longer: no client can be interrupted."""
    done: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            done.append((True, read()))
        except BaseException as error:
            done.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not done:
        raise TimeoutError(f"no end within {seconds:g} s")
    worked, result = done[0]
    if not worked:
        raise result
    return result


def _told(error: BaseException) -> BaseException:
    """The error behind a "not found" of fsspec's HTTP client, which says so of any failure."""
    while isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_final(error: Exception) -> bool:
    told = _told(error)
    return isinstance(told, (FileNotFoundError, *FINAL)) or getattr(told, "status", None) in (404, 410)


def _refused(error: Exception) -> bool:
    """Whether the server, or the lack of credentials, says no: asking again gives the same answer."""
    told = _told(error)
    status = getattr(told, "status", None)
    if isinstance(status, int) and 400 <= status < 500:
        return status not in PASSING
    return "Credential" in type(told).__name__


def _reason(error: BaseException) -> str:
    told = _told(error)
    status, message = getattr(told, "status", None), getattr(told, "message", "")
    if isinstance(status, int) and status >= 100:
        return f"the server answers {status}" + (f" ({message})" if message else "")
    if isinstance(told, TimeoutError):
        return str(told) or "no answer"
    return str(told) or type(told).__name__


class RemoteFile(io.RawIOBase):
    """A file over a network, open for reading from any place; failed reads are tried again on a new connection."""

    def __init__(self, open_file: Callable[[], Any], url: str, patience: Patience, reopen: Callable[[], None]) -> None:
        self.url, self.patience = url, patience
        self._open_file, self._reopen = open_file, reopen
        self._file: Any = None
        self._at = 0
        size = patiently(lambda: _size(self._opened()), url, patience, self._drop)
        if size is None:
            raise ValueError(f"{url}: its server does not tell how large it is; simplecache::{url} reads a copy")
        self.size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self.size)[whence])
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self.size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        data = patiently(lambda: self._read(wanted), self.url, self.patience, self._drop) if wanted else b""
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and self._file is not None:
            self._file.close()
        super().close()

    def _opened(self) -> Any:
        if self._file is None:
            self._file = self._open_file()
        return self._file

    def _read(self, wanted: int) -> bytes:
        file = self._opened()
        try:
            file.seek(self._at)
            data = file.read(wanted)
        except ValueError as error:
            raise ValueError(
                f"{self.url}: {error}; simplecache::{self.url} reads a copy, where a server gives no parts of files"
            ) from error
        if len(data) != wanted:
            raise OSError(f"{len(data)} bytes where {wanted} were asked for")
        return data

    def _drop(self) -> None:
        # Not closed: a request that hangs in it would be waited for.
        self._file = None
        self._reopen()


def _size(file: Any) -> int | None:
    return file.size if hasattr(file, "size") else file.seek(0, io.SEEK_END)


__all__ = ["CACHES", "NetworkError", "Patience", "RemoteFile", "chain", "client_options", "is_remote", "patiently"]
