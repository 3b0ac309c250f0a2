"""The steps of a run that every engine takes, and the outcome, which the run store decides.

A stage is a plain function that publishes its result under its key. Nothing here knows what stages do: a stage whose
key is stored is not run again, stages that read a failed one are skipped, and a signal or a cancellation asks the stage
at work to save and stop.
"""

import re
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from mmflow.flow.jobs import SETTLED, NotNeeded, Outcome, StageJob, StageState, TableRows, Watcher
from mmflow.flow.stopping import Stopper, Terminated
from mmflow.flow.store import RunAbout, RunStore, StoreError
from mmflow.plugin.failures import told
from mmflow.plugin.kinds import Reporter, StageStopped
from mmflow.redaction import redacted, redacted_data

_EXIT_CODES = {"SIGTERM": 143, "SIGINT": 130, "cancelled": 1}


class EngineUnavailable(Exception):
    """The engine cannot start; the message says how to go on."""


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
        self.keys = {job.name: job.key for job in jobs}
        """The keys of all stages, as far as they are known."""
        self.store = store
        self.run_name = run_name
        self.outcome = Outcome(run_id)
        self.stop = Stopper()
        self.watchers = [*watchers]
        self._force = force
        self._finish = finish
        self._cached: set[str] = set()
        self._unfinished = finish is not None
        self._store_failed = False
        """Whether the user knows that the store does not work: what follows from it is no news."""

    @contextmanager
    def opened(self, engine: str) -> Iterator[None]:
        """Around the whole run: the run's record, the signals, and the outcome at the end."""
        record = _Recorder(self.store, engine)
        self.watchers.append(record)
        self.tell(lambda watcher: watcher.opened(self.outcome.run_id, self.run_name, self.jobs))
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
            self.tell(lambda watcher: watcher.closed(self.outcome))

    def prepare(self) -> None:
        """Find out which results are stored. Every byte of them is checked, as the run shows them all."""
        for job in self.jobs:
            if job.decide is not None or self._forced(job) or self.store.entry(job.key) is None:
                continue
            if self.store.verify(job.key):
                self._cached.add(job.name)
                # Of a run that was killed after it had published the stage.
                self.store.drop_partial(job.key)
            else:
                self.note(f"the stored result of stage {job.name} was damaged: it was set aside and is made again")
        if self._cached:
            count = f"{len(self._cached)} of" if len(self._cached) < len(self.jobs) else "all"
            self.note(f"{count} {len(self.jobs)} stages found in the store", warning=False)

    def run(self, job: StageJob) -> StageState:
        """Take one stage as far as it goes. Raises nothing: failures and stops are in the outcome."""
        if job.name in self._cached:
            return self._settle(job, "cached")
        lacking = [name for name in job.after if self.outcome.stages[name] not in SETTLED]
        if lacking or self.stop.reason:
            return self._settle(job, "skipped", f"needs {', '.join(lacking)}" if lacking else "the run was stopped")
        try:
            key = self._decided(job)
            # Every byte of a stored result is checked once: by `prepare`, or here where its key was not known then.
            known = self.store.has if job.decide is None else self.store.verify
            if not self._forced(job) and known(key):
                same = next((name for name, other in self.keys.items() if other == key and name != job.name), None)
                why = f"the same stage as {same}" if same else "another run has stored it meanwhile"
                return self._settle(job, "cached", why if job.decide is None else "")
            self.tell(lambda watcher: watcher.stage(job.name, "running"))
            with self.stop.stage():
                job.run(_Reporter(self, job.name))
            stored = self.store.has(key)
        except NotNeeded as reason:
            return self._settle(job, "unneeded", str(reason))
        except (StageStopped, Terminated) as stop:
            if self.stop.reason is None:
                return self._fail(job, RuntimeError(f"it stopped though nothing has asked it to: {stop}"))
            return self._settle(job, "stopped", str(stop))
        except Exception as error:
            return self._fail(job, error)
        if stored:
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
            if not (self._store_failed and isinstance(error, StoreError)):
                self._explain("the report", "report", error)
            self.outcome.exit_code = 1
        self._unfinished = False

    def unfinished(self) -> list[str]:
        """Work that a stopped run has left: names of stages, and the report."""
        states = self.outcome.stages
        left = [job.name for job in self.jobs if states.get(job.name, "skipped") in ("stopped", "skipped")]
        return left + ["the report"] * self._unfinished

    def note(self, text: str, *, warning: bool = True) -> None:
        """Tell the user one line; a warning stays with the outcome."""
        text = redacted(text)
        if warning:
            self.outcome.notes.append(text)
        self.tell(lambda watcher: watcher.note(text, warning=warning))

    def waiting(self, text: str) -> None:
        """Tell the user what takes a moment now."""
        self.tell(lambda watcher: watcher.waiting(text))

    def tell(self, event: Callable[[Watcher], None]) -> None:
        """Tell every watcher of an event; a watcher that raises is no longer told, unless a store has failed it."""
        for watcher in list(self.watchers):
            try:
                event(watcher)
            except StoreError as error:
                # The store may come back, and the record of the run is whole then.
                if not self._store_failed:
                    self._store_failed = True
                    self.note(f"the run cannot be recorded now: {error}")
            except Exception as error:
                self.watchers.remove(watcher)
                self.note(f"{type(watcher).__name__} has failed and is off: {type(error).__name__}: {error}")

    def _forced(self, job: StageJob) -> bool:
        return self._force if isinstance(self._force, bool) else job.name in self._force

    def _decided(self, job: StageJob) -> str:
        if job.decide is not None:
            self.keys[job.name] = key = job.decide()
            self.tell(lambda watcher: watcher.decided(job.name, key))
        return self.keys[job.name]

    def _settle(self, job: StageJob, state: StageState, detail: str = "") -> StageState:
        self.outcome.stages[job.name] = state
        detail = redacted(detail)
        self.tell(lambda watcher: watcher.stage(job.name, state, detail))
        return state

    def _fail(self, job: StageJob, error: Exception) -> StageState:
        self._explain(f"stage {job.name}", job.name, error)
        return self._settle(job, "failed", _said(error))

    def _explain(self, what: str, name: str, error: Exception) -> None:
        where = ""
        self._store_failed |= isinstance(error, StoreError)
        try:
            text = redacted("".join(traceback.format_exception(error)))
            self.tell(lambda watcher: watcher.traceback(name, text))
            where = f" (traceback: {self.store.run(self.outcome.run_id).write(_file(name), text)})"
        except Exception:
            # The store itself may have failed: its message alone must do.
            if not isinstance(error, StoreError):
                traceback.print_exception(error)
        self.note(f"{what} failed: {_said(error)}{where}")

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


def _file(stage: str) -> str:
    """The file for the traceback of a stage, whose name may hold those of members of a matrix."""
    return f"{re.sub('[^A-Za-z0-9._-]+', '-', stage)}.error.txt"


def _said(error: Exception) -> str:
    # A store fails alike in every stage.
    return str(error) if isinstance(error, StoreError) else told(error)


class _Reporter:
    """The `Reporter` of one stage."""

    def __init__(self, execution: Execution, name: str):
        self._execution = execution
        self._name = name

    def progress(self, done: int, total: int, **metrics: float) -> None:
        self._execution.tell(lambda watcher: watcher.progress(self._name, done, total, metrics))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._execution.tell(lambda watcher: watcher.log(self._name, step, numbers))

    def table(self, key: str, rows: TableRows) -> None:
        shown = redacted_data(rows)
        self._execution.tell(lambda watcher: watcher.table(self._name, key, shown))

    def markdown(self, key: str, text: str) -> None:
        shown = redacted(text)
        self._execution.tell(lambda watcher: watcher.markdown(self._name, key, shown))

    def link(self, key: str, url: str, text: str | None = None) -> None:
        where, shown = redacted(url), None if text is None else redacted(text)
        self._execution.tell(lambda watcher: watcher.link(self._name, key, where, shown))

    def note(self, text: str) -> None:
        self._execution.note(f"{self._name}: {text}", warning=False)

    def should_stop(self) -> bool:
        return self._execution.stop.polled()


class _Recorder(Watcher):
    """Keeps the run's record in the store: `run.json` and `events.jsonl`."""

    def __init__(self, store: RunStore, engine: str):
        self._store = store
        self._engine = engine

    def opened(self, run_id: str, run_name: str, jobs: Sequence[StageJob]) -> None:
        self._record = self._store.run(run_id)
        self._about: RunAbout = {
            "run_id": run_id,
            "name": run_name,
            "engine": self._engine,
            "started": datetime.now(UTC).isoformat(),
            "keys": {job.name: job.key for job in jobs},
            "status": "running",
        }
        self._record.describe(self._about)
        self._record.event("opened", name=run_name, engine=self._engine)

    def decided(self, name: str, key: str) -> None:
        self._about |= {"keys": {**self._about.get("keys", {}), name: key}}
        self._record.describe(self._about)

    def stage(self, name: str, state: str, detail: str = "") -> None:
        self._record.event("stage", stage=name, state=state, detail=detail)

    def note(self, text: str, *, warning: bool = False) -> None:
        self._record.event("note", text=text)

    def closed(self, outcome: Outcome) -> None:
        self._about |= {
            "status": outcome.status,
            "ended": datetime.now(UTC).isoformat(),
            "stages": dict(outcome.stages),
            "notes": outcome.notes,
            "exit_code": outcome.exit_code,
        }
        self._record.describe(self._about)
        self._record.event("closed", status=outcome.status, exit_code=outcome.exit_code)
