"""A thread between a run and the Prefect API: sends artifacts, looks for cancellations, notices when the API is gone.

The stages only put things into a queue. When the API has been away for `PATIENCE` seconds, or silent for `SILENCE`, the
link is broken: queued artifacts wait, and the API is asked again from time to time, so that a server that comes back
sees the rest of the run.
"""

import contextvars
import json
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from mmflow.flow.jobs import StageJob, TableRows, Watcher

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PATIENCE = 5.0
"""Seconds of refused connections after which the API counts as gone."""
SILENCE = 30.0
"""The same for an API that takes connections and does not answer in time: on a busy machine it may only be slow."""
_LOOK_EVERY = 1.0
_RETRY_EVERY = 15.0
_TIMEOUT = 10.0
_FLUSH_TIMEOUT = 20.0
_RETRY_CLOSING = 0.3
_WAITING_ROOM = 1000


@dataclass(frozen=True)
class _Artifact:
    """An artifact that waits to be sent."""

    key: str
    type: str
    data: str | float
    description: str | None
    task_run: UUID | None


class ApiLink(Watcher):
    """Sends reports of stages as artifacts of the flow run; every method returns at once.

    `on_cancel` is called when the flow run is to be cancelled, `on_lost` with a line of text when the API has gone.
    """

    def __init__(self, run_name: str, on_cancel: Callable[[], None], on_lost: Callable[[str], None]):
        self._prefix = run_name
        self._on_cancel = on_cancel
        self._on_lost = on_lost
        self._flow_run: UUID | None = None
        self._task_runs: dict[str, UUID] = {}
        self._items: deque[_Artifact] = deque(maxlen=_WAITING_ROOM)
        self._progress: dict[str, tuple[float, str]] = {}
        self._bars: dict[str, UUID] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._closing = False
        self._failing_since: float | None = None
        self.lost = False
        """Whether the API counts as gone now."""
        # The thread must see the settings of the run: which API, and how often its client tries again.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._work,), name="mmflow-prefect-link", daemon=True
        )

    def open(self, flow_run: UUID) -> None:
        """Begin to work for this flow run."""
        self._flow_run = flow_run
        self._thread.start()

    def begin_stage(self, name: str, task_run: UUID) -> None:
        """Reports of stage `name` belong to this task run."""
        self._task_runs[name] = task_run

    def close(self) -> bool:
        """Send the rest, for some seconds at most; returns whether the API answers."""
        self._closing = True
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(_FLUSH_TIMEOUT + _TIMEOUT)
        return not self.lost and not self._thread.is_alive() and self._failing_since is None

    def opened(self, run_id: str, run_name: str, jobs: Sequence[StageJob]) -> None:
        rows = [
            {
                "stage": job.name,
                "after": ", ".join(job.after),
                "key": job.key,
                "declaration": "; ".join(f"{name}: {value}" for name, value in job.describe.items()),
            }
            for job in jobs
        ]
        self.table("", "stages", rows)

    def progress(self, name: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        shown = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        percent = 100.0 * done / total if total else 0.0
        with self._lock:
            self._progress[name] = (percent, f"{name}: {done} of {total}" + (f" ({shown})" if shown else ""))

    def table(self, name: str, key: str, rows: TableRows) -> None:
        def shown(value: float) -> float | None:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        shown_rows = [{column: shown(value) for column, value in row.items()} for row in rows]
        self._put(name, key, "table", json.dumps(shown_rows, default=str))

    def markdown(self, name: str, key: str, text: str) -> None:
        self._put(name, key, "markdown", text)

    def link(self, name: str, key: str, url: str, text: str | None) -> None:
        self._put(name, key, "markdown", f"[{text or url}]({url})")

    def _put(self, name: str, key: str, kind: str, data: str) -> None:
        with self._lock:
            self._items.append(_Artifact(self._artifact_key(name, key), kind, data, None, self._task_runs.get(name)))
        self._changed.set()

    def _artifact_key(self, *parts: str) -> str:
        text = "-".join(part for part in (self._prefix, *parts) if part)
        return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "mmflow"

    # In the thread

    def _work(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        # The thread itself comes again; a client that sleeps between its tries would not notice the end of the run.
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": _TIMEOUT}) as client,
        ):
            deadline = None
            while True:
                try:
                    self._exchange(client)
                except Exception as error:
                    self._has_failed(error)
                    self._changed.clear()
                else:
                    self._failing_since, self.lost = None, False
                    if self._closing and not self._items:
                        return
                if self._closing:
                    deadline = deadline or time.monotonic() + _FLUSH_TIMEOUT
                    if self.lost or time.monotonic() > deadline:
                        return
                    time.sleep(_RETRY_CLOSING)
                else:
                    self._changed.wait(_RETRY_EVERY if self.lost else _LOOK_EVERY)
                    self._changed.clear()

    def _exchange(self, client: "SyncPrefectClient") -> None:
        assert self._flow_run is not None
        state = client.read_flow_run(self._flow_run).state
        if state is not None and (state.is_cancelling() or state.is_cancelled()):
            self._on_cancel()
        while self._items:
            with self._lock:
                item = self._items[0]
            self._send(client, item)
            with self._lock:
                self._items.popleft()
        with self._lock:
            progress, self._progress = self._progress, {}
        for name, (percent, text) in progress.items():
            self._show(client, name, percent, text)

    def _send(self, client: "SyncPrefectClient", item: "_Artifact") -> UUID:
        from prefect.client.schemas.actions import ArtifactCreate

        artifact = ArtifactCreate(
            key=item.key,
            type=item.type,
            data=item.data,
            description=item.description,
            flow_run_id=self._flow_run,
            task_run_id=item.task_run,
        )
        return client.create_artifact(artifact).id

    def _show(self, client: "SyncPrefectClient", name: str, percent: float, text: str) -> None:
        from prefect.client.schemas.actions import ArtifactUpdate

        if name in self._bars:
            client.update_artifact(self._bars[name], ArtifactUpdate(data=percent, description=text))
            return
        task_run = self._task_runs.get(name)
        self._bars[name] = self._send(
            client, _Artifact(self._artifact_key(name, "progress"), "progress", percent, text, task_run)
        )

    def _has_failed(self, error: Exception) -> None:
        from httpx import TimeoutException
        from prefect.exceptions import PrefectHTTPStatusError

        if isinstance(error, PrefectHTTPStatusError) and error.response.status_code < 500:
            # The API is there and refuses this one: sending it again would block all others.
            with self._lock:
                if self._items:
                    self._items.popleft()
            return
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        patience = SILENCE if isinstance(error, TimeoutException) else PATIENCE
        if not self.lost and now - self._failing_since >= patience:
            self.lost = True
            self._on_lost(f"{type(error).__name__}")
