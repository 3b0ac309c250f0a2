"""Services as stages get them: each answer recorded in the run store and replayed, tries repeated, a rate kept."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmflow.flow.store import RunStore
from mmflow.identity.canonical import Json, key_of, plain
from mmflow.plugin.component import Component, ComponentError, Shared
from mmflow.plugin.failures import inside
from mmflow.plugin.kinds import RemoteService, Reporter, Service, ServiceBusy, StageStopped
from mmflow.plugin.targets import STAGE, Place
from mmflow.redaction import redacted

if TYPE_CHECKING:
    from mmflow.spec import Scope

LONGEST_WAIT = 300.0
"""Seconds at most before a request is tried again; a service that asks for more counts as one that does not answer."""
_FIRST_WAIT = 0.5
_LOOKS_EVERY = 0.2
_SHOWN = 300


class RecordedService:
    """A service whose answers come from the run store where they are there (`mmflow.plugin.Answering`).

    Safe for several threads: equal requests at one time are asked once. A stage that is to stop is stopped between two
    requests; the answers so far are recorded.
    """

    def __init__(
        self, service: Service, name: str, identity: Mapping[str, Json], *, store: RunStore, report: Reporter,
        offline: bool,
    ) -> None:  # fmt: skip
        self._service, self._name, self._identity = service, name, identity
        self._store, self._report, self._offline = store, report, offline
        self._pace = _Pace(service.per_minute if isinstance(service, RemoteService) else None)
        self._asked: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def ask(self, request: Mapping[str, Json]) -> Mapping[str, Json]:
        """The recorded answer to `request`, else the one that the service gives now; see `Answering`."""
        recorded = {"service": self._identity, "request": plain(request, "the request")}
        with self._lock:
            lock = self._asked.setdefault(key_of(recorded), threading.Lock())
        with lock:
            answer = self._store.memo(recorded, lambda: self._answer(request))
        assert isinstance(answer, Mapping)
        return answer

    def _answer(self, request: Mapping[str, Json]) -> Json:
        if self._offline:
            raise ComponentError(
                f"{self._name} has no recorded answer to {_shown(request)}, and the run is offline",
                hint="run once without --offline, on the same store",
            )
        tries = 1 + (self._service.retries if isinstance(self._service, RemoteService) else 0)
        for number in range(tries):
            self._wait()
            try:
                with inside(self._name, self._service):
                    answer = self._service.ask(request)
            except ServiceBusy as busy:
                wait = busy.wait if busy.wait is not None else min(LONGEST_WAIT, _FIRST_WAIT * 2**number)
                if number + 1 == tries or wait > LONGEST_WAIT:
                    raise self._silent(busy, number + 1) from busy
                self._pace.hold(wait)
                continue
            if not isinstance(answer, Mapping):
                raise ComponentError(f"{self._name} ({self._service.use}) answered {type(answer).__name__}, no mapping")
            return plain(answer, "the answer")
        raise AssertionError("a request is tried at least once")

    def _silent(self, busy: ServiceBusy, tries: int) -> ComponentError:
        asks = f" (it asks to wait {busy.wait:g} s)" if busy.wait is not None and busy.wait > LONGEST_WAIT else ""
        return ComponentError(
            f"{self._name} gave no answer in {tries} {'try' if tries == 1 else 'tries'}: {redacted(str(busy))}{asks}",
            hint="start the run again to go on: the answers so far are recorded; `per_minute` slows the requests down",
        )

    def _wait(self) -> None:
        """Until the next request may be sent."""
        while True:
            if self._report.should_stop():
                raise StageStopped(f"stopped between two requests to {self._name}; the answers so far are recorded")
            left = self._pace.left()
            if left <= 0:
                return
            time.sleep(min(left, _LOOKS_EVERY))


class _Pace:
    """When the next request may be sent, for all threads together."""

    def __init__(self, per_minute: float | None) -> None:
        self._between = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def left(self) -> float:
        """Seconds to wait; 0 where the caller may send a request now, which is then counted."""
        with self._lock:
            now = time.monotonic()
            if self._next > now:
                return self._next - now
            self._next = now + self._between
            return 0.0

    def hold(self, seconds: float) -> None:
        """Nobody sends a request for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def service_at(scope: Scope, place: Place) -> tuple[Service, str]:
    """The service in a field of the stage, and its name: the entry that it is declared in, or the field."""
    owner, field = STAGE, Place()
    made: Any = scope.component(STAGE)
    for part in place:
        inside: Any = made
        made = inside[part] if isinstance(made, Mapping | tuple) else getattr(made, str(part))
        field = (*field, part)
        while isinstance(made, Shared):
            target = scope.targets(owner)[field]
            owner, field, made = target.owner, target.field, scope.component(target.owner)
            for inner in target.field:
                made = getattr(made, inner)
    if not isinstance(made, Service):
        found = made.kind if isinstance(made, Component) else type(made).__name__
        raise ComponentError(f"there is no service in the field {'.'.join(map(str, place))}", found=found)
    return made, f"the service {'.'.join(map(str, field)) if owner == STAGE else owner}"


def _shown(request: Mapping[str, Json]) -> str:
    text = redacted(json.dumps(plain(request, "the request"), ensure_ascii=False))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
