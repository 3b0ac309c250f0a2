"""The run store: results of stages under content keys, checkpoints of unfinished stages, and records of runs.

Below the root (a local directory or any fsspec URL):

    entries/<key>/manifest.json          what was published: files with sha256 and sizes, and the caller's meta
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
import logging
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mmflow.flow.storage import DamagedFile, FileRecord, open_storage, safe_relative
from mmflow.identity.canonical import key_of, plain

_log = logging.getLogger("mmflow.store")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_STAMP = "%Y%m%dT%H%M%S"
_KEPT_CHECKPOINTS = 2
_ABANDONED = timedelta(days=1)


class StoreError(Exception):
    """Something could not be stored or read; the message says what, where and how to go on."""


class NotStored(StoreError, KeyError):
    """There is no entry under this key."""

    def __str__(self) -> str:
        return str(self.args[0])


class DamagedEntry(NotStored):
    """An entry is not what was published; it was set aside, so that a new run makes it again."""


def new_run_id(name: str) -> str:
    """A new id for a run of the spec `name`: UTC time, name and four random digits; sorts by time."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "run"
    now = datetime.now(UTC)
    return f"{now.strftime(_STAMP)}.{now.microsecond // 1000:03d}-{slug}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class Entry:
    """A published result: its key, when it was published (ISO time, UTC), its files and the publisher's meta."""

    key: str
    attempt: str
    created: str
    files: Mapping[str, FileRecord]
    meta: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Length of all files in bytes."""
        return sum(record.size for record in self.files.values())


class RunStore:
    """Content-addressed results on a local path or an fsspec URL; safe for several processes at once.

    `cache` is where files of a store that is not local are copied for reading (default: the user's cache directory);
    further options go to the fsspec file system.
    """

    def __init__(self, url: str | Path, *, cache: Path | None = None, **options: Any):
        self._storage = open_storage(url, cache=cache, **options)
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
            self._set_aside(f"entries/{key}/manifest.json", f"{wrong[0]} is missing or has the wrong length")
            return False
        return True

    def verify(self, key: str) -> bool:
        """Whether `key` is published and every byte is what was published; a damaged entry is set aside."""
        try:
            self.fetch(key)
        except NotStored:
            return False
        return True

    def entry(self, key: str) -> Entry | None:
        """The manifest of `key`, None where nothing is published."""
        name = f"entries/{_checked(key)}/manifest.json"
        data = self._storage.read(name)
        if data is None:
            return None
        try:
            return _parse_manifest(key, data)
        except ValueError as error:
            self._set_aside(name, str(error))
            return None

    def keys(self) -> list[str]:
        """Keys of all published results, sorted."""
        return [key for key in self._storage.children("entries") if self.entry(key) is not None]

    def fetch(self, key: str, into: Path | None = None) -> Path:
        """A local directory with the files of `key`, each checked against its sha256.

        A local store gives its own directory, which must not be written to; another one gives a cached copy. With
        `into` (a directory that does not exist or is empty) the files are copied there. Raises `NotStored`, or
        `DamagedEntry` after setting a damaged entry aside.
        """
        for _ in range(3):
            entry = self.entry(key)
            if entry is None:
                break
            try:
                path = self._storage.materialize(f"entries/{key}/{entry.attempt}", entry.files)
            except DamagedFile as damage:
                if (now := self.entry(key)) is not None and now.attempt != entry.attempt:
                    # Another run has published the key again meanwhile.
                    continue
                self._set_aside(f"entries/{key}/manifest.json", str(damage))
                raise DamagedEntry(
                    f"the stored result {key} in {self.url} is damaged: {damage}; it was set aside, "
                    "start the run again to make it again"
                ) from None
            return path if into is None else _copy_files(path, entry.files, into)
        raise NotStored(f"nothing is stored under {key} in {self.url}")

    def publish(self, key: str, directory: Path, meta: Mapping[str, Any], *, move: bool = False) -> None:
        """Store the files below `directory` under `key`, all or nothing; a published entry is replaced.

        `meta` is any JSON mapping and comes back as `entry(key).meta`. `move` uses `directory` up, which saves a copy
        where it lies on the store's disk (see `scratch`).
        """
        meta = plain(meta, "meta")
        folder = f"entries/{_checked(key)}"
        self._sweep_attempts(folder, datetime.now(UTC) - _ABANDONED)
        with self._attempt(folder, directory, f"the result {key}", move=move) as (attempt, files):
            self._storage.write(f"{folder}/manifest.json", _manifest(key, attempt, files, meta))

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty directory to write a result in before it is published; removed at the end."""
        folder = self._storage.scratch(f"{datetime.now(UTC).strftime(_STAMP)}-")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # Unfinished stages

    def save_partial(self, key: str, name: str, directory: Path, *, move: bool = False) -> None:
        """Store a checkpoint `name` of the unfinished stage `key`; the newest two are kept."""
        folder = f"partial/{_checked(key)}/{_checked(name)}"
        self._sweep_attempts(folder, datetime.now(UTC) - _ABANDONED)
        numbers = self._checkpoints(folder)
        number = numbers[-1] + 1 if numbers else 1
        with self._attempt(folder, directory, f"the checkpoint {name} of {key}", move=move) as (attempt, files):
            self._storage.write(f"{folder}/{number:08d}.json", _manifest(key, attempt, files, {}))
        for old in numbers[: 1 - _KEPT_CHECKPOINTS]:
            self._drop_checkpoint(folder, old)

    def load_partial(self, key: str, name: str) -> Path | None:
        """A local directory with the newest complete checkpoint, or None; its files must not be written to."""
        folder = f"partial/{_checked(key)}/{_checked(name)}"
        for number in reversed(self._checkpoints(folder)):
            manifest = f"{folder}/{number:08d}.json"
            data = self._storage.read(manifest)
            if data is None:
                continue
            try:
                entry = _parse_manifest(key, data)
                return self._storage.materialize(f"{folder}/{entry.attempt}", entry.files)
            except (ValueError, DamagedFile) as damage:
                self._set_aside(manifest, str(damage))
        return None

    def drop_partial(self, key: str) -> None:
        """Remove all checkpoints of `key`."""
        self._storage.remove(f"partial/{_checked(key)}")

    def _checkpoints(self, folder: str) -> list[int]:
        return sorted(
            int(name.removesuffix(".json"))
            for name in self._storage.children(folder)
            if name.endswith(".json") and name.removesuffix(".json").isdigit()
        )

    def _drop_checkpoint(self, folder: str, number: int) -> None:
        manifest = f"{folder}/{number:08d}.json"
        data = self._storage.read(manifest)
        self._storage.remove(manifest)
        if data is not None:
            with contextlib.suppress(ValueError):
                self._storage.remove(f"{folder}/{_parse_manifest('', data).attempt}")

    # Single results

    def memo(self, request: Mapping[str, Any], produce: Callable[[], Any]) -> Any:
        """The JSON value recorded for `request`, or else what `produce()` returns now, recorded.

        What comes back is what JSON made of the value, the first time too.
        """
        name = f"memo/{key_of(request)}.json"
        data = self._storage.read(name)
        if data is not None:
            try:
                record = json.loads(data)
                if record["sha256"] != _digest(record["value"]):
                    raise ValueError("the value does not have the sha256 that was stored")
                return record["value"]
            except (ValueError, KeyError, TypeError) as error:
                self._set_aside(name, str(error))
        value = plain(produce(), "the value")
        record = {"request": plain(request, ""), "value": value, "sha256": _digest(value)}
        with self._reported("a recorded value"):
            self._storage.write(name, json.dumps(record).encode())
        return value

    # Runs

    def run(self, run_id: str) -> "RunRecord":
        """The record of a run, new or old."""
        return RunRecord(self, _checked(run_id))

    def runs(self) -> list[str]:
        """Ids of all recorded runs, oldest first."""
        return self._storage.children("runs")

    # Care

    def sweep(self, older_than: timedelta = _ABANDONED) -> int:
        """Remove what killed processes left: attempts that no manifest names and scratch folders; returns how many.

        Only what is older than `older_than` goes, so that a run at work loses nothing.
        """
        limit = datetime.now(UTC) - older_than
        removed = 0
        folders = [f"entries/{key}" for key in self._storage.children("entries")]
        for key in self._storage.children("partial"):
            folders += [f"partial/{key}/{name}" for name in self._storage.children(f"partial/{key}")]
        for folder in [*folders, "scratch"]:
            removed += self._sweep_attempts(folder, limit)
        return removed

    def _sweep_attempts(self, folder: str, limit: datetime) -> int:
        names = self._storage.children(folder)
        kept: set[str] = set()
        for name in names:
            if name.endswith(".json") and (data := self._storage.read(f"{folder}/{name}")) is not None:
                with contextlib.suppress(ValueError):
                    manifest = _parse_manifest("", data)
                    kept.add(manifest.attempt)
                    if name == "manifest.json" and datetime.fromisoformat(manifest.created) > limit:
                        # A reader may still use what this young manifest has replaced.
                        return 0
        removed = 0
        for name in names:
            stamp = name.split("-")[0]
            if name.endswith(".json") or name in kept or not re.fullmatch(r"\d{8}T\d{6}", stamp):
                continue
            if datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC) < limit:
                self._storage.remove(f"{folder}/{name}")
                removed += 1
        return removed

    @contextlib.contextmanager
    def _attempt(
        self, folder: str, directory: Path, what: str, *, move: bool
    ) -> Iterator[tuple[str, dict[str, FileRecord]]]:
        attempt = f"{datetime.now(UTC).strftime(_STAMP)}-{secrets.token_hex(6)}"
        with self._reported(what):
            try:
                yield attempt, self._storage.put_tree(directory, f"{folder}/{attempt}", move=move)
            except BaseException:
                with contextlib.suppress(Exception):
                    if not self._named(folder, attempt):
                        self._storage.remove(f"{folder}/{attempt}")
                raise

    def _named(self, folder: str, attempt: str) -> bool:
        """Whether a manifest names `attempt`: the error may have come just after the manifest was put."""
        manifests = (name for name in self._storage.children(folder) if name.endswith(".json"))
        return any(attempt.encode() in (self._storage.read(f"{folder}/{name}") or b"") for name in manifests)

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot store {what} in {self.url}: {error}; what was stored before is unchanged"
            ) from error

    def _set_aside(self, name: str, why: str) -> None:
        aside = f"{name.removesuffix('.json')}.damaged-{datetime.now(UTC).strftime(_STAMP)}.json"
        _log.warning("%s in %s is damaged (%s) and was set aside as %s", name, self.url, why, aside)
        self._storage.rename(name, aside)


class RunRecord:
    """Files that tell of one run, below `runs/<run id>/`; kept whether or not the run ends well."""

    def __init__(self, store: RunStore, run_id: str):
        self.id = run_id
        self._storage = store._storage
        self._folder = f"runs/{run_id}"
        self.url = f"{store.url.rstrip('/')}/{self._folder}"

    def write(self, name: str, data: bytes | str) -> str:
        """Store one file (`run.json`, `report.html`), replacing an older one at once; returns its path or URL."""
        self._storage.write(f"{self._folder}/{_checked(name)}", data.encode() if isinstance(data, str) else data)
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes | None:
        """The bytes of one file, None where there is none."""
        return self._storage.read(f"{self._folder}/{_checked(name)}")

    def event(self, event: str, **fields: Any) -> None:
        """Add one line to `events.jsonl`, with the time; the run must be recorded by one process."""
        line = {"time": datetime.now(UTC).isoformat(), "event": event, **fields}
        self._storage.append(f"{self._folder}/events.jsonl", json.dumps(line, default=str).encode() + b"\n")

    def events(self) -> list[dict[str, Any]]:
        """All complete lines of `events.jsonl`."""
        lines = (self.read("events.jsonl") or b"").split(b"\n")
        return [json.loads(line) for line in lines[:-1] if line]

    def files(self) -> list[str]:
        """Names of the files of the record."""
        return self._storage.children(self._folder)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise StoreError(f"{name!r} cannot name anything in the store: letters, digits, '.', '_' and '-' only")
    return name


def _manifest(key: str, attempt: str, files: Mapping[str, FileRecord], meta: Mapping[str, Any]) -> bytes:
    content = {
        "mmflow_store": 1,
        "key": key,
        "attempt": attempt,
        "created": datetime.now(UTC).isoformat(),
        "files": {name: asdict(record) for name, record in files.items()},
        "meta": dict(meta),
    }
    return json.dumps(content, indent=1).encode()


def _parse_manifest(key: str, data: bytes) -> Entry:
    """Raises `ValueError` where `data` is not a manifest."""
    try:
        content = json.loads(data)
        if content["mmflow_store"] != 1:
            raise ValueError(f"the manifest has version {content['mmflow_store']}, this mmflow reads version 1")
        files = {name: FileRecord(int(item["size"]), item["sha256"]) for name, item in content["files"].items()}
        if not all(map(safe_relative, [*files, content["attempt"]])):
            raise ValueError("the manifest names a file outside its folder")
        return Entry(key or content["key"], content["attempt"], content["created"], files, content["meta"])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"the manifest cannot be read ({type(error).__name__}: {error})") from None


def _copy_files(source: Path, files: Mapping[str, FileRecord], into: Path) -> Path:
    into.mkdir(parents=True, exist_ok=True)
    if any(into.iterdir()):
        raise StoreError(f"{into} is not empty; a stored result is copied into an empty directory only")
    for name in files:
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, into / name)
    return into


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
