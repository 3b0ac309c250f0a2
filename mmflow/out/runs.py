"""Runs from Python: `run_here` runs a spec, `recorded_runs` and `metrics_of` tell of those that are recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmflow.artifacts import MetricsArtifact
from mmflow.flow.jobs import Watcher
from mmflow.flow.members import recorded_members
from mmflow.flow.run import RunOptions, RunOutcome, open_store, run_members
from mmflow.flow.store import StoreError
from mmflow.out.finding import LATEST
from mmflow.out.tables import Cell, Row, Table
from mmflow.plugin.component import ComponentError
from mmflow.plugin.references import Written
from mmflow.plugin.values import Metric
from mmflow.spec import load_members
from mmflow.spec.text.yaml_writer import write_yaml

if TYPE_CHECKING:
    from mmflow.out.model import LoadedModel

COLUMNS = ("stage", "of", "metric", "value", "low", "high", "spread", "chance", "unit", "better", "name")


class RunFailed(ComponentError):
    """A run of which a stage has failed; `result` holds what there is."""

    def __init__(self, message: str, result: RunResult) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class RunResult:
    """A run that has ended. `metrics` is a table, `load()` gives the model."""

    run: str
    """Its id."""
    status: str
    metrics: Table
    stages: Mapping[str, str | None]
    """How each stage ended: `done` or `cached`."""
    report: str | None
    """Path or URL of its page."""
    notes: Sequence[str]
    store: str = field(repr=False)

    def load(self, *, stage: str = "", member: str = "", device: str = "auto") -> LoadedModel:
        """The model of the run, as `mmflow.load` gives it."""
        from mmflow.out.loading import load_model

        return load_model(self.run, store=self.store, stage=stage, member=member, device=device)

    def _repr_html_(self) -> str:
        return f"<p>{self.run}: {self.status}</p>{self.metrics._repr_html_()}"


def run_here(
    spec: str | Path | Mapping[str, Written], overrides: Sequence[str], *, store: str,
    engine: Literal["local", "prefect"], device: str, workers: int, force: Sequence[str],
    watchers: Sequence[Watcher],
) -> RunResult:  # fmt: skip
    """Run a spec: a path or URL, or its content as a mapping.

    Raises `SpecError`, `ComponentError` and `StoreError` before the first stage, and `RunFailed` where one fails.
    """
    if isinstance(spec, Mapping):
        matrix = load_members("<spec>", overrides, text=write_yaml(dict(spec)))
    else:
        matrix = load_members(str(spec), overrides)
    options = RunOptions(store=store, engine=engine, force=tuple(force), workers=workers, device=device)
    outcome = run_members(matrix, options, watchers)
    result = _result(outcome, store)
    if outcome.exit_code:
        said = next((note for note in reversed(result.notes) if "failed" in note), "; ".join(result.notes[-1:]))
        raise RunFailed(f"run {result.run}: {result.status}: {said}", result)
    return result


def _result(outcome: RunOutcome, store: str) -> RunResult:
    rows = [row for stage, metrics in outcome.metrics.items() for row in _rows(stage, metrics)]
    stages = {stage.name: outcome.outcome.stages.get(stage.name) for stage in outcome.plan}
    return RunResult(
        outcome.outcome.run_id, outcome.outcome.status, Table(rows, COLUMNS), stages, outcome.report,
        tuple(outcome.outcome.notes), store,
    )  # fmt: skip


def recorded_runs(store: str) -> Table:
    """The runs of a store, the newest first; a record that cannot be read has no more than its id."""
    rows: list[dict[str, Cell]] = []
    opened = open_store(store)
    for run in reversed(opened.runs()):
        try:
            about = opened.run(run).about()
        except StoreError:
            rows.append({"run": run})
            continue
        stages = about.get("stages") or {}
        done = sum(state in ("done", "cached") for state in stages.values())
        rows.append({
            "run": run, "name": about.get("name"), "status": about.get("status"), "started": about.get("started"),
            "ended": about.get("ended"), "stages": f"{done} of {len(about.get('keys') or stages)}",
        })  # fmt: skip
    return Table(rows, ("run", "name", "status", "started", "ended", "stages"))


def metrics_of(run: str, store: str) -> Table:
    """The stored metrics of a recorded run (`latest`: the newest); of several members, with the member.

    Raises `StoreError` for an unknown run.
    """
    opened = open_store(store)
    known = opened.runs()
    if not known:
        raise StoreError(f"no run is recorded in {opened.url}")
    run = known[-1] if run == LATEST else run
    if run not in known:
        raise StoreError(f"no run {run} is recorded in {opened.url}; the newest is {known[-1]}")
    record = opened.run(run)
    keys = record.about().get("keys", {})
    members = recorded_members(record, with_data=False)
    rows: list[Row] = []
    for name, (member, names) in members.items():
        for stage, declaration in member.spec.stages.items():
            key = keys.get(names.get(stage, stage), "")
            if "Metrics" not in declaration.gives.values() or not key:
                continue
            try:
                stored = MetricsArtifact(opened.fetch(key)).read().get("metrics", [])
            except StoreError:
                continue
            rows += [{**({"member": name} if name else {}), **row} for row in _rows(stage, stored)]
    several = any(members)
    return Table(rows, ("member", *COLUMNS) if several else COLUMNS)


def _rows(stage: str, metrics: Sequence[dict[str, Any]]) -> list[dict[str, Cell]]:
    """Stored metrics as rows."""
    rows: list[dict[str, Cell]] = []
    for stored in metrics:
        metric = Metric.read(stored)
        rows.append({
            "stage": stage, "of": metric.group, "metric": metric.heading, "value": metric.value,
            "low": metric.low, "high": metric.high, "spread": metric.spread,
            "chance": metric.chance, "unit": metric.unit, "better": metric.better, "name": metric.name,
        })  # fmt: skip
    return rows
