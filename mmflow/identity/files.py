"""Files that a declaration names, by their content: where a file lies changes no result."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from mmflow.compat.fsspec import opened
from mmflow.identity.notes import FileNotes
from mmflow.plugin.component import ComponentError
from mmflow.plugin.files import local_path, refuse_devices

_CHUNK = 1 << 20


def content_of(url: str, *, says: str) -> str:
    """sha256 of the bytes behind a path or fsspec URL; a folder's covers the names and bytes of all files below it.

    Raises `ComponentError` where nothing can be read; `says` is the name of the field that holds `url`.
    """
    try:
        refuse_devices(url)
        local = _local(url)
        if local is None:
            digest = hashlib.sha256()
            with opened(url) as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            return digest.hexdigest()
        if local.is_dir():
            files = sorted(path for path in local.rglob("*") if path.is_file())
            text = "\n".join(f"{path.relative_to(local).as_posix()} {_digest(path)}" for path in files)
            return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        return _digest(local)
    except (OSError, ValueError, ImportError) as error:
        raise ComponentError(
            f"{says}: {url} cannot be read: {error}", found=url, hint="give a path or an fsspec URL of a file"
        ) from error
    finally:
        _notes().save()


def _digest(path: Path) -> str:
    return str(_notes().of(path.absolute(), _read))


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _local(url: str) -> Path | None:
    path = local_path(url)
    return Path(path) if path is not None else None


@cache
def _notes() -> FileNotes:
    return FileNotes("contents")
