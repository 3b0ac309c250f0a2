"""The run store: results of stages under content keys, checkpoints of unfinished stages, and records of runs.

Below the root (a local directory or any fsspec URL):

    entries/<key>/manifest.json          the published files with sha256 and sizes, and the caller's meta
    entries/<key>/<attempt>/...          the files themselves
    partial/<key>/<name>/<number>.json   checkpoints of a stage that is not finished, the highest number is the newest
    memo/<hash>.json                     single results recorded inside a stage
    runs/<run id>/...                    run.json, the spec, events.jsonl, report.html

Files go to an attempt folder first and become visible by one atomic put of the manifest, so that a process killed at
any moment leaves the old state or the new one, and two runs that publish the same key both end well: the last manifest
counts, and attempts that no manifest names are removed by `sweep` once they are old.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mmflow.flow.store.attempts import ABANDONED, Attempts
from mmflow.flow.store.checkpoints import Checkpoints
from mmflow.flow.store.errors import DamagedEntry, NotStored, StoreError
from mmflow.flow.store.locations import open_storage
from mmflow.flow.store.manifest import Entry, checked_name, manifest_of, parse_manifest
from mmflow.flow.store.records import RunRecord
from mmflow.flow.store.scratch import scratch_folder, sweep
from mmflow.flow.store.storage import DamagedFile
from mmflow.identity.canonical import Json, key_of, plain
from mmflow.redaction import redacted_data


class RunStore:
    """Content-addressed results on a local path or an fsspec URL; safe for several processes at once.

    `cache` is where files of a store that is not local are copied for reading (default: the user's cache directory).
    """

    def __init__(self, url: str | Path, *, cache: Path | None = None):
        self._storage = open_storage(url, cache=cache)
        self._attempts = Attempts(self._storage)
        self._checkpoints = Checkpoints(self._storage, self._attempts)
        self.url = self._storage.url

    def __repr__(self) -> str:
        return f"RunStore({self.url!r})"

    # Results

    def has(self, key: str) -> bool:
        """Whether `key` is published with all its files in their full length (their bytes are checked by `fetch`)."""
        entry = self.entry(key)
        if entry is None:
            return False
        sizes = self._storage.sizes(f"entries/{key}/{entry.attempt}")
        wrong = [name for name, record in entry.files.items() if sizes.get(name) != record.size]
        if wrong:
            self._attempts.set_aside(f"entries/{key}/manifest.json", f"{wrong[0]} is missing or has the wrong length")
            return False
        return True

    def verify(self, key: str) -> bool:
        """Whether `key` is published and every byte is as it was then; a damaged entry is set aside."""
        try:
            self.fetch(key)
        except NotStored:
            return False
        return True

    def entry(self, key: str) -> Entry | None:
        """The manifest of `key`, None where nothing is published."""
        name = f"entries/{checked_name(key)}/manifest.json"
        data = self._storage.read(name)
        if data is None:
            return None
        try:
            return parse_manifest(key, data)
        except ValueError as error:
            self._attempts.set_aside(name, str(error))
            return None

    def keys(self) -> list[str]:
        """Keys of all published results, sorted."""
        return [key for key in self._storage.children("entries") if self.entry(key) is not None]

    def fetch(self, key: str) -> Path:
        """A local directory with the files of `key`, each checked against its sha256.

        A local store gives its own directory, which must not be written to; another one gives a cached copy. Raises
        `NotStored`, or `DamagedEntry` after setting a damaged entry aside.
        """
        for _ in range(3):
            entry = self.entry(key)
            if entry is None:
                break
            try:
                return self._storage.materialize(f"entries/{key}/{entry.attempt}", entry.files)
            except DamagedFile as damage:
                if (now := self.entry(key)) is not None and now.attempt != entry.attempt:
                    # Another run has published the key again meanwhile.
                    continue
                self._attempts.set_aside(f"entries/{key}/manifest.json", str(damage))
                raise DamagedEntry(
                    f"the stored result {key} in {self.url} is damaged: {damage}; it was set aside, "
                    "start the run again to make it again"
                ) from None
        raise NotStored(f"nothing is stored under {key} in {self.url}")

    def publish_or_keep(self, key: str, directory: Path, meta: Mapping[str, Json]) -> None:
        """`publish` with `move`; where that fails, the files are kept on this machine for `publish_kept`.

        Raises `StoreError`, which tells where they are.
        """
        try:
            self.publish(key, directory, meta, move=True)
        except StoreError as error:
            place = self._kept(key)
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(place, ignore_errors=True)
                # First under another name: a move to another disk may be cut short.
                part = place.with_name(f"{place.name}.part")
                shutil.move(directory, part)
                os.replace(part, place)
            except OSError as second:
                raise StoreError(f"{error}; nor could it be kept in {place}: {second}") from error
            raise StoreError(f"{error}; it is kept in {place}, and the next run stores it from there") from error

    def publish_kept(self, key: str, meta: Mapping[str, Json]) -> bool:
        """Publish files that `publish_or_keep` has kept on this machine; whether there were any."""
        place = self._kept(key)
        if not place.is_dir():
            return False
        self.publish(key, place, meta)
        shutil.rmtree(place, ignore_errors=True)
        return True

    def _kept(self, key: str) -> Path:
        return self._storage.unpublished() / checked_name(key)

    def publish(self, key: str, directory: Path, meta: Mapping[str, Json], *, move: bool = False) -> None:
        """Store the files below `directory` under `key`, all or nothing; a published entry is replaced.

        `meta` is any JSON mapping and comes back as `entry(key).meta`. `move` uses `directory` up, which saves a copy
        where it lies on the store's disk (see `scratch`).
        """
        meta = redacted_data(plain(meta, "meta"))
        folder = f"entries/{checked_name(key)}"
        with self._attempts.putting(folder, directory, f"the result {key}", move=move) as (attempt, files):
            self._storage.write(f"{folder}/manifest.json", manifest_of(key, attempt, files, meta))

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty directory to write a result in before it is published; removed at the end.

        Those that killed processes have left are removed first.
        """
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(scratch_folder(self._storage.scratch()))
            except OSError as error:
                raise StoreError(f"cannot make a folder for results in {self.url}: {error}") from error
            yield folder

    # Unfinished stages

    def save_partial(self, key: str, name: str, directory: Path, *, move: bool = False) -> None:
        """Store a checkpoint `name` of the unfinished stage `key`; the newest two are kept."""
        self._checkpoints.save(checked_name(key), checked_name(name), directory, move=move)

    def load_partial(self, key: str, name: str) -> Path | None:
        """A local directory with the newest complete checkpoint, or None; its files must not be written to."""
        return self._checkpoints.load(checked_name(key), checked_name(name))

    def drop_partial(self, key: str) -> None:
        """Remove the checkpoints of `key` that this store object has written or loaded."""
        self._checkpoints.drop(checked_name(key))

    # Single results

    def memo(self, request: Mapping[str, Json], produce: Callable[[], Json], *, again: bool = False) -> Json:
        """The JSON value recorded for `request`, or else (always with `again`) that of `produce()`, recorded now.

        The value comes back in the form that JSON gives it, the first time too.
        """
        name = f"memo/{key_of(request)}.json"
        data = None if again else self._storage.read(name)
        if data is not None:
            try:
                record = json.loads(data)
                if record["sha256"] != _digest(record["value"]):
                    raise ValueError("the value does not have the sha256 that was stored")
                return record["value"]
            except (ValueError, KeyError, TypeError) as error:
                self._attempts.set_aside(name, str(error))
        value = redacted_data(plain(produce(), "the value"))
        record = {"request": redacted_data(plain(request, "")), "value": value, "sha256": _digest(value)}
        with self._attempts.reported("a recorded value"):
            self._storage.write(name, json.dumps(record).encode())
        return value

    # Runs

    def run(self, run_id: str) -> RunRecord:
        """The record of a run, new or old."""
        return RunRecord(self._storage, checked_name(run_id))

    def runs(self) -> list[str]:
        """Ids of all recorded runs, oldest first."""
        return self._storage.children("runs")

    # Care

    def sweep(self, older_than: timedelta = ABANDONED) -> int:
        """Remove leftovers of killed processes: attempts that no manifest names and scratch folders; returns how many.

        Only attempts older than `older_than` go, so that a run at work loses nothing.
        """
        limit = datetime.now(UTC) - older_than
        removed = 0
        folders = [f"entries/{key}" for key in self._storage.children("entries")]
        for key in self._storage.children("partial"):
            folders += [f"partial/{key}/{name}" for name in self._storage.children(f"partial/{key}")]
        for folder in folders:
            removed += self._attempts.sweep(folder, limit)
        return removed + sweep(self._storage.scratch())


def _digest(value: Json) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
