"""Records of runs: the spec, the settings and the events of each, below `runs/<run id>/`."""

import json
import re
import secrets
from datetime import UTC, datetime
from typing import NotRequired, TypedDict

from mmflow.flow.store.errors import StoreError
from mmflow.flow.store.manifest import STAMP, checked_name
from mmflow.flow.store.storage import Storage
from mmflow.identity.canonical import Json
from mmflow.redaction import redacted, redacted_data

_ABOUT = "run.json"


class Event(TypedDict):
    """One line of `events.jsonl`: `event` is opened, stage, note or closed."""

    time: str
    event: str
    stage: NotRequired[str]
    state: NotRequired[str]
    detail: NotRequired[str]
    text: NotRequired[str]


class RunAbout(TypedDict, total=False):
    """The content of `run.json`; `stages`, `notes`, `ended` and `exit_code` come with the end of the run."""

    run_id: str
    name: str
    engine: str
    started: str
    keys: dict[str, str]
    status: str
    ended: str
    stages: dict[str, str]
    notes: list[str]
    exit_code: int


def new_run_id(name: str) -> str:
    """A new id for a run of the spec `name`: UTC time, name and four random digits; sorts by time."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "run"
    now = datetime.now(UTC)
    return f"{now.strftime(STAMP)}.{now.microsecond // 1000:03d}-{slug}-{secrets.token_hex(2)}"


class RunRecord:
    """Files that tell of one run, below `runs/<run id>/`; kept whether or not the run ends well."""

    def __init__(self, storage: Storage, run_id: str):
        self.id = run_id
        self._storage = storage
        self._folder = f"runs/{run_id}"
        self.url = f"{storage.url.rstrip('/')}/{self._folder}"

    def write(self, name: str, data: bytes | str) -> str:
        """Store one file (`report.html`), replacing an older one at once; returns its path or URL.

        Values of the environment in a text are replaced by the names of their variables.
        """
        content = redacted(data).encode() if isinstance(data, str) else data
        self._storage.write(f"{self._folder}/{checked_name(name)}", content)
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes | None:
        """The bytes of one file, None where there is none."""
        return self._storage.read(f"{self._folder}/{checked_name(name)}")

    def event(self, event: str, **fields: Json) -> None:
        """Add one line to `events.jsonl`, with the time; the run must be recorded by one process."""
        line = redacted_data({"time": datetime.now(UTC).isoformat(), "event": event, **fields})
        self._storage.append(f"{self._folder}/events.jsonl", json.dumps(line, default=str).encode() + b"\n")

    def events(self) -> list[Event]:
        """All complete lines of `events.jsonl`; those that cannot be read are left out."""
        found: list[Event] = []
        for line in (self.read("events.jsonl") or b"").split(b"\n")[:-1]:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and isinstance(event.get("event"), str) and isinstance(event.get("time"), str):
                found.append(event)  # type: ignore[arg-type]
        return found

    def about(self) -> RunAbout:
        """The content of `run.json`; empty where there is none. Raises `StoreError` where it cannot be read."""
        data = self.read(_ABOUT)
        try:
            about = json.loads(data) if data else {}
        except ValueError as error:
            raise StoreError(f"{self.url}/{_ABOUT} cannot be read: {error}") from None
        kinds = {"stages": dict, "keys": dict, "notes": list}
        if not isinstance(about, dict) or any(not isinstance(about.get(n, kind()), kind) for n, kind in kinds.items()):
            raise StoreError(f"{self.url}/{_ABOUT} cannot be read: it is no record of a run")
        return about  # type: ignore[return-value]

    def describe(self, about: RunAbout) -> None:
        """Write `run.json`."""
        self.write(_ABOUT, json.dumps(redacted_data(about), indent=1).encode())

    def files(self) -> list[str]:
        """Names of the files of the record."""
        return self._storage.children(self._folder)
