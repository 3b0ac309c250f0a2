"""Runs an ordered list of stages, through Prefect or without it, and decides the outcome from the run store.

A stage is a plain function that publishes its result under its key. Nothing here knows what stages do: a stage whose
key is stored is not run again, a failed stage skips what reads it, and a signal or a cancellation asks the stage at
work to save and stop.
"""

import json
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from mmflow.flow.stopping import StageStopped, Stopper, Terminated
from mmflow.flow.store import RunStore, new_run_id
from mmflow.plugin.kinds import Reporter

if TYPE_CHECKING:
    from mmflow.flow.server import EmbeddedApi

StageState = Literal["done", "cached", "failed", "skipped", "stopped"]
"""`done` ran now, `cached` was stored before, `skipped` was not begun, `stopped` was begun and asked to stop."""

_EXIT_CODES = {"SIGTERM": 143, "SIGINT": 130, "cancelled": 1}


@dataclass(frozen=True)
class StageJob:
    """One stage of a run, ready to be called."""

    name: str
    """Name in the spec, such as `train` or `retrieval`."""
    key: str
    """Content key under which `run` publishes its result."""
    after: tuple[str, ...]
    """Names of the earlier stages that it reads."""
    run: Callable[[Reporter], None]
    describe: Mapping[str, str] = field(default_factory=dict)
    """What to show of its declaration."""


@dataclass
class Outcome:
    """How a run ended: `completed` when every stage's result is stored, `interrupted` by a signal."""

    run_id: str
    status: Literal["completed", "cancelled", "interrupted", "failed"] = "completed"
    stages: dict[str, StageState] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """One line each for what the user should know: failures, a lost API, how to go on."""
    exit_code: int = 0


class Watcher:
    """Sees a run go by; the base sees nothing. Names of stages are those of the jobs."""

    def opened(self, run_id: str, run_name: str, jobs: Sequence[StageJob]) -> None:
        """Before the first stage."""

    def stage(self, name: str, state: StageState | Literal["running"], detail: str = "") -> None:
        """A stage has changed its state."""

    def progress(self, name: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """A stage has done `done` of `total` units."""

    def table(self, name: str, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A stage shows a table."""

    def markdown(self, name: str, key: str, text: str) -> None:
        """A stage shows a text."""

    def link(self, name: str, key: str, url: str, text: str | None) -> None:
        """A stage shows a link."""

    def note(self, text: str) -> None:
        """One line for the user."""

    def closed(self, outcome: Outcome) -> None:
        """After everything."""


class EngineUnavailable(Exception):
    """The engine cannot start; the message says how to go on."""


def run_jobs(
    jobs: Sequence[StageJob],
    *,
    store: RunStore,
    run_name: str,
    engine: Literal["prefect", "local"] = "prefect",
    run_id: str | None = None,
    force: bool | Collection[str] = False,
    watchers: Iterable[Watcher] = (),
    finish: Callable[[Outcome, Reporter], None] | None = None,
    api: "EmbeddedApi | None" = None,
) -> Outcome:
    """Run `jobs` in order and return how it went; raises only for a list of jobs that makes no sense.

    A job whose key is stored is `cached`, unless `force` is true or names it. `finish` is called once, after the last
    stage of a run that was not stopped, with the outcome so far: the place to write a report. `api` is an embedded
    Prefect API that the caller has started early (`server.start_early`); it is closed at the end. Exit codes: 0, 1 (a
    stage failed, or the run was cancelled), 2 (the engine cannot start), 130 (SIGINT), 143 (SIGTERM). To be called in
    the main thread, where signals arrive.
    """
    _check_jobs(jobs)
    run_id = run_id or new_run_id(run_name)
    execution = Execution(jobs, store, run_name, run_id, force, watchers, finish)
    if engine == "local":
        with execution.opened("local"):
            execution.prepare()
            for job in execution.jobs:
                execution.run(job)
            execution.finish()
    else:
        from mmflow.flow.prefect_engine import run_with_prefect

        with execution.opened("prefect"):
            run_with_prefect(execution, api)
    return execution.outcome


class Execution:
    """The state of one run, and the steps that every engine takes: `prepare`, `run` for each job, `finish`."""

    def __init__(
        self,
        jobs: Sequence[StageJob],
        store: RunStore,
        run_name: str,
        run_id: str,
        force: bool | Collection[str],
        watchers: Iterable[Watcher],
        finish: Callable[[Outcome, Reporter], None] | None,
    ):
        self.jobs = tuple(jobs)
        self.store = store
        self.run_name = run_name
        self.outcome = Outcome(run_id)
        self.stop = Stopper()
        self.watchers = [*watchers]
        self._force = force
        self._finish = finish
        self._cached: set[str] = set()
        self._unfinished = finish is not None

    @contextmanager
    def opened(self, engine: str) -> Iterator[None]:
        """Around the whole run: the run's record, the signals, and the outcome at the end."""
        record = _Recorder(self.store, engine)
        self.watchers.append(record)
        self.tell("opened", self.outcome.run_id, self.run_name, self.jobs)
        try:
            with self.stop.listening():
                yield
        except EngineUnavailable as error:
            self.outcome.status, self.outcome.exit_code = "failed", 2
            self.note(str(error))
        except Terminated:
            # Between two stages; the reason is with the stopper.
            pass
        finally:
            self._conclude()
            self.tell("closed", self.outcome)

    def prepare(self) -> None:
        """Find out which results are stored; those that a stage to be run reads are checked byte by byte."""
        by_name = {job.name: job for job in self.jobs}
        self._cached = {job.name for job in self.jobs if not self._forced(job) and self.store.has(job.key)}
        checked: set[str] = set()
        waiting = [job for job in self.jobs if job.name not in self._cached]
        while waiting:
            for name in waiting.pop().after:
                if name in checked or name not in self._cached:
                    continue
                checked.add(name)
                if not self.store.verify(by_name[name].key):
                    self._cached.discard(name)
                    self.note(f"the stored result of stage {name} was damaged: it was set aside and is made again")
                waiting.append(by_name[name])

    def is_cached(self, job: StageJob) -> bool:
        """Whether `run` will find the result of `job` in the store."""
        return job.name in self._cached

    def run(self, job: StageJob) -> StageState:
        """Take one stage as far as it goes. Raises nothing: failures and stops are in the outcome."""
        if job.name in self._cached:
            return self._settle(job, "cached")
        lacking = [name for name in job.after if self.outcome.stages[name] not in ("done", "cached")]
        if lacking or self.stop.reason:
            return self._settle(job, "skipped", f"needs {', '.join(lacking)}" if lacking else "the run was stopped")
        self.tell("stage", job.name, "running")
        try:
            with self.stop.stage():
                job.run(_Reporter(self, job.name))
        except (StageStopped, Terminated) as stop:
            if self.stop.reason is None:
                return self._fail(job, RuntimeError(f"it stopped though nothing has asked it to: {stop}"))
            return self._settle(job, "stopped", str(stop))
        except Exception as error:
            return self._fail(job, error)
        if self.store.has(job.key):
            return self._settle(job, "done")
        if self.stop.reason:
            return self._settle(job, "stopped")
        return self._fail(job, RuntimeError("it ended without publishing its result"))

    def finish(self) -> None:
        """Call the run's `finish`, once, if the run was not stopped."""
        if not self._unfinished or self._finish is None or self.stop.reason:
            return
        try:
            with self.stop.stage():
                self._finish(self.outcome, _Reporter(self, "report"))
        except (StageStopped, Terminated):
            return
        except Exception as error:
            self._explain("the report", "report", error)
            self.outcome.exit_code = 1
        self._unfinished = False

    def unfinished(self) -> list[str]:
        """What a stopped run has left: names of stages, and the report."""
        states = self.outcome.stages
        left = [job.name for job in self.jobs if states.get(job.name, "skipped") in ("stopped", "skipped")]
        return left + ["the report"] * self._unfinished

    def note(self, text: str) -> None:
        """Tell the user one line, now and in the outcome."""
        self.outcome.notes.append(text)
        self.tell("note", text)

    def tell(self, event: str, *arguments: Any) -> None:
        """Call a method of every watcher; one that raises is no longer asked."""
        for watcher in list(self.watchers):
            try:
                getattr(watcher, event)(*arguments)
            except Exception as error:
                self.watchers.remove(watcher)
                self.note(f"{type(watcher).__name__} has failed and is off: {type(error).__name__}: {error}")

    def _forced(self, job: StageJob) -> bool:
        return self._force if isinstance(self._force, bool) else job.name in self._force

    def _settle(self, job: StageJob, state: StageState, detail: str = "") -> StageState:
        self.outcome.stages[job.name] = state
        self.tell("stage", job.name, state, detail)
        return state

    def _fail(self, job: StageJob, error: Exception) -> StageState:
        self._explain(f"stage {job.name}", job.name, error)
        return self._settle(job, "failed", f"{type(error).__name__}: {error}")

    def _explain(self, what: str, name: str, error: Exception) -> None:
        where = ""
        try:
            text = "".join(traceback.format_exception(error))
            where = f" (traceback: {self.store.run(self.outcome.run_id).write(f'{name}.error.txt', text)})"
        except Exception:
            # The store may be what has failed: the message alone must do.
            traceback.print_exception(error)
        self.note(f"{what} failed: {type(error).__name__}: {error}{where}")

    def _conclude(self) -> None:
        outcome = self.outcome
        for job in self.jobs:
            outcome.stages.setdefault(job.name, "skipped")
        states = outcome.stages.values()
        if outcome.exit_code == 2:
            return
        left = self.unfinished()
        if self.stop.reason and left:
            outcome.status = "cancelled" if self.stop.reason == "cancelled" else "interrupted"
            outcome.exit_code = _EXIT_CODES[self.stop.reason]
            why = "" if self.stop.reason == "cancelled" else f" by {self.stop.reason}"
            self.note(f"the run was {outcome.status}{why}; left: {', '.join(left)}; start it again to go on")
        elif outcome.exit_code or "failed" in states or "skipped" in states:
            outcome.status, outcome.exit_code = "failed", 1


class _Reporter:
    """The `Reporter` of one stage."""

    def __init__(self, execution: Execution, name: str):
        self._execution = execution
        self._name = name

    def progress(self, done: int, total: int, **metrics: float) -> None:
        self._execution.tell("progress", self._name, done, total, metrics)

    def table(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._execution.tell("table", self._name, key, rows)

    def markdown(self, key: str, text: str) -> None:
        self._execution.tell("markdown", self._name, key, text)

    def link(self, key: str, url: str, text: str | None = None) -> None:
        self._execution.tell("link", self._name, key, url, text)

    def should_stop(self) -> bool:
        return self._execution.stop.polled()


class _Recorder(Watcher):
    """Keeps the run's record in the store: `run.json` and `events.jsonl`."""

    def __init__(self, store: RunStore, engine: str):
        self._store = store
        self._engine = engine

    def opened(self, run_id: str, run_name: str, jobs: Sequence[StageJob]) -> None:
        self._record = self._store.run(run_id)
        self._about: dict[str, Any] = {
            "run_id": run_id,
            "name": run_name,
            "engine": self._engine,
            "started": datetime.now(UTC).isoformat(),
            "keys": {job.name: job.key for job in jobs},
            "status": "running",
        }
        self._write()
        self._record.event("opened", name=run_name, engine=self._engine)

    def stage(self, name: str, state: str, detail: str = "") -> None:
        self._record.event("stage", stage=name, state=state, detail=detail)

    def note(self, text: str) -> None:
        self._record.event("note", text=text)

    def closed(self, outcome: Outcome) -> None:
        self._about |= {
            "status": outcome.status,
            "ended": datetime.now(UTC).isoformat(),
            "stages": outcome.stages,
            "notes": outcome.notes,
            "exit_code": outcome.exit_code,
        }
        self._write()
        self._record.event("closed", status=outcome.status, exit_code=outcome.exit_code)

    def _write(self) -> None:
        self._record.write("run.json", json.dumps(self._about, indent=1))


def _check_jobs(jobs: Sequence[StageJob]) -> None:
    seen: set[str] = set()
    for job in jobs:
        if job.name in seen:
            raise ValueError(f"two stages are named {job.name}")
        for name in job.after:
            if name not in seen:
                raise ValueError(f"stage {job.name} reads {name}, which is not a stage before it")
        seen.add(job.name)
