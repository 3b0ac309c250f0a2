"""Model folders and hub names."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmflow.plugin import ComponentError

WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".npz", ".gguf", ".ot"})


def is_local(name: str) -> bool:
    """Whether a name means a local folder: a folder exists, or the name is written as a path."""
    return Path(name).is_dir() or name.startswith((".", "/", "~"))


def folder_of(name: str, *needed: str) -> Path:
    """The folder `name`; raises `ComponentError` where it is missing, or all of the files `needed` are."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ComponentError(f"there is no folder {name}", hint="name a folder, or a model of the hub")
    if needed and not any((folder / file).is_file() for file in needed):
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise ComponentError(f"{name} holds none of {', '.join(needed)}", found=found)
    return folder


def contents(name: str, revision: str | None = None, *, weights: bool = False) -> Any:
    """Identity of a folder (a hash of its files, those with weights if asked) or of a hub name in a key."""
    if not is_local(name):
        return {"name": name, "revision": revision}
    digest = hashlib.sha256()
    folder = folder_of(name)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and (weights or p.suffix not in WEIGHTS)):
        stat = path.stat()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{stat.st_size}\0".encode())
        digest.update(_hash_of(path, stat.st_size, stat.st_mtime_ns))
    return {"content": digest.hexdigest()}


@lru_cache(maxsize=4096)
def _hash_of(path: Path, size: int, changed: int) -> bytes:
    """sha256 of a file, read again once its size or time has changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def first_line(error: Exception) -> str:
    """The beginning of a library's message."""
    return str(error).strip().split("\n")[0]
