"""A run: the plan of a spec, carried out by an engine, with its record, its report and its metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmflow.artifacts import MetricsArtifact
from mmflow.flow.engine import run_jobs
from mmflow.flow.jobs import Outcome, StageJob, Watcher
from mmflow.flow.members import record_members, recorded_members
from mmflow.flow.observers import Observers
from mmflow.flow.plan import Plan, PlannedStage, plan_members
from mmflow.flow.repeats import key_after
from mmflow.flow.store import RunStore, StoreError, new_run_id
from mmflow.flow.trackers import Trackers
from mmflow.identity.canonical import Json
from mmflow.plugin.kinds import Reporter
from mmflow.redaction import redacted_data
from mmflow.spec import Matrix

if TYPE_CHECKING:
    from mmflow.spec import Spec

_REPORT = "report.html"


@dataclass(frozen=True)
class RunOptions:
    """How to run a spec; nothing here changes a result."""

    store: str = ".mmflow"
    """A local directory or any fsspec URL."""
    engine: Literal["prefect", "local"] = "prefect"
    force: tuple[str, ...] = ()
    """Stages to run again though their results are stored, with all that reads them."""
    workers: int = 0
    """Loader processes of stages that set none."""
    device: str = "auto"
    offline: bool = False
    """Services give recorded answers only."""


@dataclass
class RunOutcome:
    """How a run ended, its metrics, and where its report is."""

    outcome: Outcome
    plan: Plan
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The metrics of each stage that has some, as stored: `name`, `value`, `chance`, `better`, `unit`, `spread`."""
    report: str | None = None
    """Path or URL of the page; None where the run was stopped before it was written."""
    lines: list[str] = field(default_factory=list)
    """The metrics beside chance, as text."""
    remarks: dict[str, list[str]] = field(default_factory=dict)
    """Warnings about the results, by stage."""
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)
    """By entry of `data`: samples that could not be read and were left out by its policy, with the reason."""
    table: list[dict[str, Any]] = field(default_factory=list)
    """Of a matrix: each metric of each group of members that differ in their seed alone, against the first group."""

    @property
    def exit_code(self) -> int:
        return self.outcome.exit_code

    def summary(self) -> dict[str, Json]:
        """Everything as plain data."""
        said: dict[str, Json] = {
            "run": self.outcome.run_id,
            "status": self.outcome.status,
            "stages": {
                stage.name: {"state": self.outcome.stages.get(stage.name), "key": stage.key or None}
                for stage in self.plan
            },
            "metrics": self.metrics,
            "remarks": self.remarks,
            "left_out": self.left_out,
            "report": self.report,
            "notes": self.outcome.notes,
        }
        if list(self.plan.by_member) != [""]:
            said |= {"members": {name: self.plan.names(name) for name in self.plan.by_member}, "table": self.table}
        return redacted_data(said)


def run_spec(spec: Spec, options: RunOptions, watchers: Sequence[Watcher] = ()) -> RunOutcome:
    """`run_members` for one spec."""
    return run_members(Matrix.of(spec), options, watchers)


def run_members(matrix: Matrix, options: RunOptions, watchers: Sequence[Watcher] = ()) -> RunOutcome:
    """Run every stage of all members whose result is not stored; equal stages of several members once.

    Raises `StoreError`, `ComponentError`, `SpecError` and `EngineUnavailable` for mistakes before the first stage;
    later failures are in the outcome, and stop no member that does not need the failed stage.
    """

    def waiting(text: str) -> None:
        for watcher in watchers:
            watcher.waiting(text)

    count = sum(len(member.spec.stages) for member in matrix)
    waiting(f"planning {count} stages, with the store {options.store}")
    store = open_store(options.store)
    plan, forced = plan_members(matrix, store, options.force)
    working = [stage for stage in plan if not (stage.cached or stage.unneeded) or stage.name in forced]
    api = None
    if options.engine == "prefect":
        waiting("loading Prefect")
        from mmflow.flow.prefect.api import find_api

        # The API comes up while torch is imported.
        api = find_api(store.url)
    if working:
        from mmflow.flow.machine import choose_device

        try:
            waiting("loading PyTorch")
            choose_device(options.device)
            waiting("checking shapes, and samples of the data")
            first = {name: [one.stage for one in working if one.members[0] == name] for name in matrix.members}
            rehearse((member.spec, first[member.name]) for member in matrix)
        except BaseException:
            if api is not None:
                api.close()
            raise
    failures: list[str] = []

    def notify(text: str) -> None:
        failures.append(text)
        for watcher in watchers:
            watcher.note(text, warning=True)

    observers = Observers(notify)

    def job(stage: PlannedStage) -> StageJob:
        spec, keys = matrix.members[stage.members[0]].spec, plan.by_member[stage.members[0]]

        def run(reporter: Reporter) -> None:
            from mmflow.flow.machine import choose_device
            from mmflow.flow.stage import run_stage

            decided = replace(stage, key=keys.stage(stage.stage))
            observers.stage_started(stage.name, decided.key)
            run_stage(
                decided,
                spec=spec,
                keys=keys,
                store=store,
                report=reporter,
                device=choose_device(options.device),
                workers=options.workers,
                forced=stage.name in forced,
                offline=options.offline,
            )
            observers.stage_finished(stage.name, decided.key, {"metrics": stored_metrics(store, decided)})

        decide = partial(key_after, stage.stage, stage.awaits, spec, keys, store) if stage.awaits else None
        describe = {"use": stage.declaration.use}
        return StageJob(stage.name, stage.key, stage.after, run, describe=describe, decide=decide)

    trackers = [Trackers(one, plan.names(one.name), store, notify) for one in matrix if one.spec.track]
    name = matrix.first.name
    run_id = new_run_id(name)
    record = store.run(run_id)
    # At once, so that the report of a run that was killed can be written later.
    record_members(record, matrix, plan)
    result = RunOutcome(Outcome(run_id), plan)

    def finish(outcome: Outcome, reporter: Reporter) -> None:
        from mmflow.flow.report import collect_members

        report = collect_members(store, record, {one.name: (one, plan.names(one.name)) for one in matrix})
        result.lines, result.table = report.lines(), report.table()
        result.remarks, result.left_out = report.remarks(), report.left_out()
        result.report = record.write(_REPORT, report.page())
        reporter.link("report", result.report, "report")
        reporter.markdown("summary", report.markdown())

    result.outcome = run_jobs(
        [job(stage) for stage in plan],
        store=store,
        run_name=name,
        run_id=run_id,
        engine=options.engine,
        force=forced,
        watchers=[*watchers, observers, *trackers],
        finish=finish,
        api=api,
    )
    result.outcome.notes += failures
    result.plan = plan.settled()
    for stage in result.plan:
        if result.outcome.stages.get(stage.name) in ("done", "cached") and (found := stored_metrics(store, stage)):
            result.metrics[stage.name] = found
    return result


def rehearse(members: Iterable[tuple[Spec, Collection[str]]]) -> None:
    """Do before the first step what `check --shapes` does, for stages of specs.

    Raises `SpecError` with all that it finds in the first spec in which it finds something.
    """
    from mmflow.evaluate.trial import StageCheck
    from mmflow.spec import SpecError

    check = StageCheck()
    for spec, stages in members:
        if problems := check.of(spec, stages).problems:
            raise SpecError(problems)


def open_store(url: str) -> RunStore:
    """The run store at a local path or fsspec URL. Raises `StoreError` where there can be none."""
    local = Path(url) if "://" not in url and "::" not in url else None
    if local is not None and not local.is_dir():
        blocking = next((p for p in (local, *local.parents) if p.exists()), None)
        if blocking is not None and not blocking.is_dir():
            raise StoreError(f"the store {url} cannot be used: {blocking} is a file; name another with --store")
    try:
        return RunStore(url)
    except (ImportError, ValueError, OSError) as error:
        raise StoreError(f"the store {url} cannot be opened: {error}; name another with --store") from None


def write_report(store: RunStore, run_id: str = "latest") -> str:
    """Write the report of a recorded run again; returns its path or URL. Raises `StoreError` for an unknown run."""
    from mmflow.flow.report import collect_members

    known = store.runs()
    if not known:
        raise StoreError(f"no run is recorded in {store.url}")
    if run_id == "latest":
        run_id = known[-1]
    if run_id not in known:
        raise StoreError(f"no run {run_id} is recorded in {store.url}; the newest is {known[-1]}")
    record = store.run(run_id)
    return record.write(_REPORT, collect_members(store, record, recorded_members(record)).page())


def stored_metrics(store: RunStore, stage: PlannedStage) -> list[dict[str, Any]]:
    """The metrics that a stage has stored; none for a stage that measures nothing."""
    if "Metrics" not in stage.declaration.gives.values() or not stage.key:
        return []
    try:
        return MetricsArtifact(store.fetch(stage.key)).read().get("metrics", [])
    except StoreError:
        return []
