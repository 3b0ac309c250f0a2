"""A run: the plan of a spec, carried out by an engine, with its record, its report and its metrics."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmflow.artifacts import MetricsArtifact
from mmflow.flow.engine import run_jobs
from mmflow.flow.jobs import Outcome, StageJob, Watcher
from mmflow.flow.observers import Observers
from mmflow.flow.plan import Plan, PlannedStage, build_plan
from mmflow.flow.store import RunStore, StoreError, new_run_id
from mmflow.identity.canonical import Json
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Reporter
from mmflow.redaction import redacted_data

if TYPE_CHECKING:
    from mmflow.spec import Spec

_SPEC = "spec.yaml"
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

    @property
    def exit_code(self) -> int:
        return self.outcome.exit_code

    def summary(self) -> dict[str, Json]:
        """Everything as plain data."""
        said: dict[str, Json] = {
            "run": self.outcome.run_id,
            "status": self.outcome.status,
            "stages": {
                stage.name: {"state": self.outcome.stages.get(stage.name), "key": stage.key} for stage in self.plan
            },
            "metrics": self.metrics,
            "remarks": self.remarks,
            "left_out": self.left_out,
            "report": self.report,
            "notes": self.outcome.notes,
        }
        return redacted_data(said)


def run_spec(spec: Spec, options: RunOptions, watchers: Sequence[Watcher] = ()) -> RunOutcome:
    """Run every stage of `spec` whose result is not stored.

    Raises `StoreError` and `ComponentError` for mistakes found before the first stage; later failures are in the
    outcome.
    """
    store = open_store(options.store)
    plan = build_plan(spec, store)
    unknown = [name for name in options.force if name not in spec.stages]
    if unknown:
        raise ComponentError(f"--force {unknown[0]}: no such stage", expected=f"one of: {', '.join(spec.stages)}")
    forced = plan.following(options.force)
    working = any(not stage.cached or stage.name in forced for stage in plan)
    api = None
    if options.engine == "prefect":
        from mmflow.flow.prefect.server import start_early

        # The API comes up while torch is imported.
        api = start_early(store.url)
    if working:
        from mmflow.flow.context import choose_device

        try:
            choose_device(options.device)
            rehearse(spec, [stage.name for stage in plan if not stage.cached or stage.name in forced])
        except BaseException:
            if api is not None:
                api.close()
            raise
    failures: list[str] = []

    def notify(text: str) -> None:
        failures.append(text)
        for watcher in watchers:
            watcher.note(text)

    observers = Observers(notify)

    def job(stage: PlannedStage) -> StageJob:
        def run(reporter: Reporter) -> None:
            from mmflow.flow.context import choose_device, run_stage

            observers.stage_started(stage.name, stage.key)
            run_stage(
                stage,
                spec=spec,
                keys=plan.keys,
                store=store,
                report=reporter,
                device=choose_device(options.device),
                workers=options.workers,
                forced=stage.name in forced,
            )
            observers.stage_finished(stage.name, stage.key, {"metrics": stored_metrics(store, stage)})

        return StageJob(stage.name, stage.key, stage.inputs, run, describe={"use": stage.declaration.use})

    run_id = new_run_id(spec.name)
    # At once, so that the report of a run that was killed can be written later.
    store.run(run_id).write(_SPEC, spec.to_yaml().encode())
    result = RunOutcome(Outcome(run_id), plan)

    def finish(outcome: Outcome, reporter: Reporter) -> None:
        from mmflow.flow.report import collect, render, summary_lines, summary_markdown

        record = store.run(run_id)
        report = collect(store, record, spec)
        result.lines = summary_lines(report)
        result.remarks = {stage.name: stage.remarks for stage in report.stages if stage.remarks}
        result.left_out = {entry.name: entry.skipped for entry in report.data if entry.skipped}
        result.report = record.write(_REPORT, render(report))
        reporter.link("report", result.report, "report")
        reporter.markdown("summary", summary_markdown(report))

    result.outcome = run_jobs(
        [job(stage) for stage in plan],
        store=store,
        run_name=spec.name,
        run_id=run_id,
        engine=options.engine,
        force=forced,
        watchers=[*watchers, observers],
        finish=finish,
        api=api,
    )
    result.outcome.notes += failures
    for stage in plan:
        if result.outcome.stages.get(stage.name) in ("done", "cached") and (found := stored_metrics(store, stage)):
            result.metrics[stage.name] = found
    return result


def rehearse(spec: Spec, stages: Collection[str]) -> None:
    """Do before the first step what `check --shapes` does, for `stages`; raises `SpecError` with all that it finds."""
    from mmflow.model.shapes import check_shapes
    from mmflow.spec import SpecError

    if problems := check_shapes(spec, stages).problems:
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
    from mmflow.flow.report import collect, render
    from mmflow.spec import load_text

    known = store.runs()
    if not known:
        raise StoreError(f"no run is recorded in {store.url}")
    if run_id == "latest":
        run_id = known[-1]
    if run_id not in known:
        raise StoreError(f"no run {run_id} is recorded in {store.url}; the newest is {known[-1]}")
    record = store.run(run_id)
    text = record.read(_SPEC)
    if text is None:
        raise StoreError(f"the record of run {run_id} in {store.url} holds no spec")
    return record.write(_REPORT, render(collect(store, record, load_text(text, file=f"{run_id}/{_SPEC}"))))


def stored_metrics(store: RunStore, stage: PlannedStage) -> list[dict[str, Any]]:
    """The metrics that a stage has stored; none for a stage that measures nothing."""
    if "Metrics" not in stage.declaration.gives.values():
        return []
    try:
        return MetricsArtifact(store.fetch(stage.key)).read().get("metrics", [])
    except StoreError:
        return []
