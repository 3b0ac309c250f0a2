"""Scratch folders, in which results are written before they are published: each lives as long as its process.

A lock file beside the folder, held while the process lives, says so: a stage may take days, and a killed one leaves its
folder to the next run, which removes it.
"""

import fcntl
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from mmflow.flow.store.manifest import STAMP

LOCK = ".lock"
FORGOTTEN = 30 * 24 * 3600.0
"""Seconds after which a folder of another machine, whose locks may not be seen here, was left by a killed process."""
UNLOCKED = 24 * 3600.0
"""Seconds after which one without a lock was."""


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """A new empty folder below `root`, removed at the end. Folders of processes that were killed are removed first."""
    root.mkdir(parents=True, exist_ok=True)
    sweep(root)
    folder = root / f"{datetime.now(UTC).strftime(STAMP)}-{secrets.token_hex(6)}"
    lock = _locked(_lock_of(folder), wait=True)
    assert lock is not None
    try:
        os.ftruncate(lock, 0)
        os.write(lock, socket.gethostname().encode())
        folder.mkdir()
        yield folder
    finally:
        _remove(folder, lock)


def sweep(root: Path) -> int:
    """Remove the scratch folders below `root` that processes have left which were killed; returns how many."""
    removed = 0
    for folder in sorted(path for path in root.iterdir() if path.suffix != LOCK) if root.is_dir() else ():
        lock_file = _lock_of(folder)
        if not lock_file.exists():
            if _age(folder) > UNLOCKED:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
            continue
        lock = _locked(lock_file, wait=False)
        if lock is None:
            continue
        own = os.read(lock, 300).decode(errors="replace") in ("", socket.gethostname())
        if own or _age(folder) > FORGOTTEN:
            _remove(folder, lock)
            removed += 1
        else:
            os.close(lock)
    return removed


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + LOCK)


def _locked(path: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock file `path`; None where another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Another process may have removed the file between the two steps.
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.unlink(_lock_of(folder))
    os.close(lock)


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
