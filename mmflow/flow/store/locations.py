"""From the name of a store, a path or an fsspec URL, to its storage."""

import os
from pathlib import Path

from mmflow.cache import user_cache
from mmflow.compat.fsspec import short_patience
from mmflow.flow.store.storage import Storage


def open_storage(url: str | os.PathLike[str], *, cache: Path | None = None) -> Storage:
    """Storage at a local path or an fsspec URL (`memory://name`, `s3://bucket/prefix`).

    `cache` is where files of a storage that is not local are copied for reading (default: the user's cache directory).
    """
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    from mmflow.flow.store.disk import LocalStorage
    from mmflow.flow.store.guarded import GuardedStorage
    from mmflow.flow.store.objects import ObjectStorage

    fs, root = url_to_fs(os.fspath(url), **short_patience(os.fspath(url)))
    if isinstance(fs, LocalFileSystem):
        return GuardedStorage(LocalStorage(Path(root)))
    return GuardedStorage(ObjectStorage(fs, root, url=os.fspath(url), cache=cache or user_cache() / "store"))
