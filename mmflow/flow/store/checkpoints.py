"""Checkpoints of stages that are not finished: `partial/<key>/<name>/<number>.json`, the highest number is newest.

Two runs of one spec may be at work on one stage. Each removes at its end the checkpoints that it wrote or went on
from, and none of the other's; a checkpoint that vanishes while it is read is looked for again.
"""

import contextlib
from datetime import UTC, datetime
from pathlib import Path

from mmflow.flow.store.attempts import ABANDONED, Attempts
from mmflow.flow.store.manifest import Entry, manifest_of, parse_manifest
from mmflow.flow.store.storage import DamagedFile, Storage

_KEPT = 2
_LOOKS = 3


class Checkpoints:
    """The checkpoints below one storage."""

    def __init__(self, storage: Storage, attempts: Attempts):
        self._storage = storage
        self._attempts = attempts
        self._own: dict[str, set[str]] = {}
        """By key: attempts that this process has written or gone on from, as paths below the root."""

    def save(self, key: str, name: str, directory: Path, *, move: bool) -> None:
        """Store a checkpoint; of those of this stage the newest two are kept."""
        folder, what = f"partial/{key}/{name}", f"the checkpoint {name} of {key}"
        with self._attempts.reported(what):
            numbers = self._numbers(folder)
        number = numbers[-1] + 1 if numbers else 1
        with self._attempts.putting(folder, directory, what, move=move) as (attempt, files):
            self._storage.write(f"{folder}/{number:08d}.json", manifest_of(key, attempt, files, {}))
        self._own.setdefault(key, set()).add(f"{folder}/{attempt}")
        for old in numbers[: 1 - _KEPT]:
            self._drop(folder, old)

    def load(self, key: str, name: str) -> Path | None:
        """A local directory with the newest complete checkpoint, or None."""
        folder = f"partial/{key}/{name}"
        for _ in range(_LOOKS):
            vanished = False
            for number in reversed(self._numbers(folder)):
                manifest = f"{folder}/{number:08d}.json"
                data = self._storage.read(manifest)
                if data is None:
                    vanished = True
                    continue
                try:
                    entry = parse_manifest(key, data)
                    found = self._storage.materialize(f"{folder}/{entry.attempt}", entry.files)
                except (ValueError, DamagedFile) as damage:
                    if self._storage.read(manifest) == data:
                        self._attempts.set_aside(manifest, str(damage))
                    else:
                        vanished = True
                    continue
                self._own.setdefault(key, set()).add(f"{folder}/{entry.attempt}")
                return found
            if not vanished:
                break
        return None

    def drop(self, key: str) -> None:
        """Remove the checkpoints of `key` that this process has written or gone on from, and abandoned ones."""
        own = self._own.pop(key, set())
        for name in self._storage.children(f"partial/{key}"):
            folder = f"partial/{key}/{name}"
            for number in self._numbers(folder):
                entry = self._entry(f"{folder}/{number:08d}.json")
                if entry is None:
                    continue
                abandoned = datetime.now(UTC) - datetime.fromisoformat(entry.created) > ABANDONED
                if abandoned or f"{folder}/{entry.attempt}" in own:
                    self._drop(folder, number)
            self._attempts.sweep(folder, datetime.now(UTC) - ABANDONED)
        for attempt in own:
            # Of those whose manifest another run has replaced.
            self._storage.remove(attempt)
        for name in self._storage.children(f"partial/{key}"):
            self._storage.tidy(f"partial/{key}/{name}")
        self._storage.tidy(f"partial/{key}")

    def _numbers(self, folder: str) -> list[int]:
        return sorted(
            int(name.removesuffix(".json"))
            for name in self._storage.children(folder)
            if name.endswith(".json") and name.removesuffix(".json").isdigit()
        )

    def _entry(self, manifest: str) -> Entry | None:
        data = self._storage.read(manifest)
        with contextlib.suppress(ValueError):
            return parse_manifest("", data) if data is not None else None

    def _drop(self, folder: str, number: int) -> None:
        manifest = f"{folder}/{number:08d}.json"
        entry = self._entry(manifest)
        self._storage.remove(manifest)
        if entry is not None:
            self._storage.remove(f"{folder}/{entry.attempt}")
