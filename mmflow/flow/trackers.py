"""Trackers beside a run: told live, in a thread of their own, so that none of them slows a run down or changes it."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mmflow.artifacts import HistoryArtifact, Measured, MetricsArtifact
from mmflow.flow.jobs import Outcome, StageJob, StageState, Watcher
from mmflow.flow.store import RunStore, StoreError
from mmflow.identity.canonical import Json
from mmflow.plugin.failures import told
from mmflow.plugin.kinds import TrackedRun, Tracker, Tracking
from mmflow.plugin.values import Metric
from mmflow.redaction import redacted, redacted_data
from mmflow.spec import Member

PATIENCE = 60.0
"""Seconds that a tracker gets at the end of a run, for what it has not sent."""
WAITING = 10_000
"""Messages at most that wait for one tracker; further ones are left out, and it is told how many."""

_Event = Callable[[Tracking], None]


class Trackers(Watcher):
    """The trackers of a spec as one watcher. One that fails is told to `notify` once, and is off from then on.

    Each member of a matrix is a run of its own to them; `names` are those of its stages in the run here.
    """

    def __init__(
        self, member: Member, names: Mapping[str, str], store: RunStore, notify: Callable[[str], None]
    ) -> None:
        self._member, self._spec, self._store, self._notify = member.name, member.spec, store, notify
        self._stages = {in_run: stage for stage, in_run in names.items()}
        self._keys: dict[str, str] = {}
        self._lines: list[_Line] = []

    def opened(self, run_id: str, run_name: str, jobs: Sequence[StageJob]) -> None:
        self._keys = {job.name: job.key for job in jobs if job.name in self._stages}
        resolved = self._spec.resolved()
        run = TrackedRun(
            f"{run_id}.{re.sub('[^A-Za-z0-9]+', '-', self._member)}" if self._member else run_id,
            redacted(f"{run_name} {self._member}".strip()),
            redacted(self._spec.to_yaml()),
            redacted_data(_flat({name: value for name, value in resolved.items() if name not in ("mmflow", "track")})),
            tuple(self._stages[name] for name in self._keys),
        )
        self._lines = [_Line(name, tracker, run, self._notify) for name, tracker in self._spec.track.items()]

    def decided(self, name: str, key: str) -> None:
        if name in self._stages:
            self._keys[name] = key

    def log(self, name: str, step: int, numbers: Mapping[str, float]) -> None:
        if name in self._stages:
            kept, stage = dict(numbers), self._stages[name]
            self._tell(lambda tracking: tracking.log(stage, step, kept))

    def stage(self, name: str, state: StageState | str, detail: str = "") -> None:
        if state not in ("done", "cached") or not self._lines or name not in self._stages:
            return
        try:
            folder = self._store.fetch(self._keys[name])
        except StoreError:
            return
        if state == "cached":
            for line in HistoryArtifact(folder).lines():
                self.log(name, int(line["step"]), line)
        self._measured(self._stages[name], MetricsArtifact(folder).read())

    def _measured(self, name: str, content: Measured) -> None:
        from mmflow.flow.report import figure_page

        metrics = [Metric.read(stored) for stored in content.get("metrics", [])]
        if metrics:
            self._tell(lambda tracking: tracking.measured(name, metrics))
        for title, data in content.get("figures", {}).items():
            self._tell(partial(_draw, name, title, data, redacted(figure_page(title, data))))

    def link(self, name: str, key: str, url: str, text: str | None) -> None:
        self._tell(lambda tracking: tracking.link(text or key, url))

    def closed(self, outcome: Outcome) -> None:
        self._tell(lambda tracking: tracking.end(outcome.status))
        deadline = time.monotonic() + PATIENCE
        for line in self._lines:
            line.close(deadline)

    def _tell(self, event: _Event) -> None:
        for line in self._lines:
            line.put(event)


class _Line:
    """One tracker with its thread, and the events that wait for it."""

    def __init__(self, name: str, tracker: Tracker, run: TrackedRun, notify: Callable[[str], None]) -> None:
        self._name, self._tracker, self._run, self._notify = name, tracker, run, notify
        self._events: queue.Queue[_Event | None] = queue.Queue()
        self._off = False
        self._left_out = 0
        self._thread = threading.Thread(target=self._work, name=f"mmflow-track-{name}", daemon=True)
        self._thread.start()

    def put(self, event: _Event) -> None:
        if self._off:
            return
        if self._events.qsize() >= WAITING:
            self._left_out += 1
        else:
            self._events.put(event)

    def close(self, deadline: float) -> None:
        """Let the tracker finish, until `deadline` (monotonic seconds) at most."""
        self._events.put(None)
        self._thread.join(max(0.1, deadline - time.monotonic()))
        if self._thread.is_alive() and not self._off:
            self._off = True
            self._notify(f"the tracker {self._name} did not finish in {PATIENCE:g} s, and is left alone")
        if self._left_out:
            self._notify(f"the tracker {self._name} was too slow: {self._left_out} messages were left out")

    def _work(self) -> None:
        try:
            tracking = self._tracker.begin(self._run)
            while (event := self._events.get()) is not None and not self._off:
                event(tracking)
        except Exception as error:
            self._off = True
            self._notify(redacted(f"the tracker {self._name} has failed and is off: {told(error)}"))


def _draw(stage: str, title: str, data: Mapping[str, Json], page: str, tracking: Tracking) -> None:
    tracking.figure(stage, title, data, page)


def _flat(value: Json, path: str = "") -> dict[str, bool | int | float | str | None]:
    """The plain values inside mappings and lists by their dotted paths."""
    if isinstance(value, Mapping):
        inside = [_flat(item, f"{path}.{name}" if path else str(name)) for name, item in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        inside = [_flat(item, f"{path}.{index}") for index, item in enumerate(value)]
    else:
        return {path: value}
    return {name: one for part in inside for name, one in part.items()}
