"""Attempts: trees of files that are stored aside and become visible by one write of a manifest that names them."""

import contextlib
import logging
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mmflow.flow.store.errors import StoreError
from mmflow.flow.store.manifest import STAMP, parse_manifest
from mmflow.flow.store.storage import FileRecord, Storage

_log = logging.getLogger("mmflow.store")
ABANDONED = timedelta(days=1)
"""An attempt that no manifest names after this time was left by a process that was killed."""


class Attempts:
    """Folders of attempts beside the manifests that name them."""

    def __init__(self, storage: Storage):
        self._storage = storage

    @contextlib.contextmanager
    def putting(
        self, folder: str, directory: Path, what: str, *, move: bool
    ) -> Iterator[tuple[str, dict[str, FileRecord]]]:
        """Store `directory` as an attempt below `folder`; the block writes the manifest that names it.

        Raises `StoreError`, whose message names the files by `what`; an attempt that failed is removed again.
        """
        attempt = f"{datetime.now(UTC).strftime(STAMP)}-{secrets.token_hex(6)}"
        with self.reported(what):
            self.sweep(folder, datetime.now(UTC) - ABANDONED)
            try:
                yield attempt, self._storage.put_tree(directory, f"{folder}/{attempt}", move=move)
            except BaseException:
                with contextlib.suppress(Exception):
                    if not self._named(folder, attempt):
                        if move:
                            self._storage.give_back(f"{folder}/{attempt}", directory)
                        self._storage.remove(f"{folder}/{attempt}")
                raise

    def _named(self, folder: str, attempt: str) -> bool:
        """Whether a manifest names `attempt`: the error may have come just after the manifest was put."""
        manifests = (name for name in self._storage.children(folder) if name.endswith(".json"))
        return any(attempt.encode() in (self._storage.read(f"{folder}/{name}") or b"") for name in manifests)

    @contextlib.contextmanager
    def reported(self, what: str) -> Iterator[None]:
        """Errors of the storage as `StoreError`; `what` names the files that could not be stored."""
        try:
            yield
        except (StoreError, OSError) as error:
            raise StoreError(f"cannot store {what}: {error}; earlier results are unchanged") from error

    def set_aside(self, name: str, why: str) -> None:
        """Rename a damaged manifest or record, so that it is no longer found."""
        aside = f"{name.removesuffix('.json')}.damaged-{datetime.now(UTC).strftime(STAMP)}.json"
        _log.warning("%s in %s is damaged (%s) and was set aside as %s", name, self._storage.url, why, aside)
        self._storage.rename(name, aside)

    def sweep(self, folder: str, limit: datetime) -> int:
        """Remove attempts begun before `limit` that no manifest names; returns how many."""
        names = self._storage.children(folder)
        kept: set[str] = set()
        for name in names:
            if name.endswith(".json") and (data := self._storage.read(f"{folder}/{name}")) is not None:
                with contextlib.suppress(ValueError):
                    manifest = parse_manifest("", data)
                    kept.add(manifest.attempt)
                    if name == "manifest.json" and datetime.fromisoformat(manifest.created) > limit:
                        # A reader may still use the attempt that this young manifest has replaced.
                        return 0
        removed = 0
        for name in names:
            stamp = name.split("-")[0]
            if name.endswith(".json") or name in kept or not re.fullmatch(r"\d{8}T\d{6}", stamp):
                continue
            if datetime.strptime(stamp, STAMP).replace(tzinfo=UTC) < limit:
                self._storage.remove(f"{folder}/{name}")
                removed += 1
        return removed
