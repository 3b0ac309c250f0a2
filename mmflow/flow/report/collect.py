"""Gathers the content of a report as plain data: from the run's record, the stages' stored outputs and the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mmflow.artifacts import (
    EmbeddingMap,
    Environment,
    HistoryArtifact,
    MetricsArtifact,
    StageRecord,
    StoredItems,
    TrainingSummary,
)
from mmflow.flow.jobs import SETTLED
from mmflow.flow.store import Event, NotStored, RunAbout, RunRecord, RunStore, StoreError
from mmflow.plugin.modality import Shown, first_member, modality
from mmflow.plugin.values import Example as StoredExample
from mmflow.plugin.values import Metric, RawValue, TensorType

if TYPE_CHECKING:
    from mmflow.spec import Spec

T = TypeVar("T")


@dataclass(frozen=True)
class ShownRow:
    """One value of the data, as its modality shows it, with the id of its row."""

    id: str
    value: Shown


@dataclass(frozen=True)
class Example:
    """A query and the best candidates, each with whether it is right."""

    query: ShownRow
    found: list[tuple[ShownRow, bool]]


@dataclass(frozen=True)
class Figure:
    """A plain-data figure of an evaluator, with its title."""

    title: str
    data: Mapping[str, Any]


@dataclass
class StageReport:
    """One stage: how it went in this run, and its results, stored now or earlier."""

    name: str
    use: str
    key: str
    state: str
    seconds: float | None = None
    """How long it worked when its result was made."""
    started: str = ""
    detail: str = ""
    data: str | None = None
    """The entry of `data` that was trained or measured on."""
    reads: list[str] = field(default_factory=list)
    """All entries that were read."""
    rows: int | None = None
    metrics: list[Metric] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    examples: list[tuple[str, list[Example]]] = field(default_factory=list)
    """Under a title (`image to text`)."""
    map: EmbeddingMap | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    training: TrainingSummary = field(default_factory=TrainingSummary)
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)
    """By entry of `data`: samples that could not be read, with the reason."""
    environment: Environment = field(default_factory=Environment)
    notes: list[str] = field(default_factory=list)
    """Numbers that were not measured, and why."""
    remarks: list[str] = field(default_factory=list)
    """Warnings about the result."""
    folder: str = ""
    """Where its result is; empty where it is not stored."""

    @property
    def cached(self) -> bool:
        return self.state == "cached"

    def items(self) -> Mapping[str, StoredItems]:
        """Scores of single items by metric; they are read now."""
        return MetricsArtifact(Path(self.folder)).items() if self.folder else {}


@dataclass(frozen=True)
class EntryReport:
    """One entry of `data`, and the stages that have read it."""

    name: str
    use: str
    rows: int | None
    fields: Mapping[str, str]
    """Declared fields, in words."""
    read_by: list[str]
    skipped: dict[str, str]
    """Samples that could not be read, with the reason."""
    left_out: list[str]
    """Parts of the data that belong to no sample, with their number and the reason."""
    caveats: list[str]
    """Sentences that a reader of results must know."""


@dataclass
class RunReport:
    """Everything that the report of one run shows."""

    name: str
    run_id: str
    status: str
    started: str
    seconds: float | None
    seed: int
    engine: str
    stages: list[StageReport]
    notes: list[str]
    spec: str
    """The resolved spec as YAML."""
    data: list[EntryReport]

    @property
    def environment(self) -> Environment:
        """Where the newest stage of those whose results are shown was made."""
        newest = max((s for s in self.stages if s.environment), key=lambda s: s.started, default=None)
        return newest.environment if newest else {}

    def stage(self, name: str) -> StageReport:
        return next(stage for stage in self.stages if stage.name == name)


def collect(
    store: RunStore,
    record: RunRecord,
    spec: Spec,
    names: Mapping[str, str] | None = None,
    shown: Mapping[str, tuple[str, StageReport]] | None = None,
    *,
    illustrated: bool = True,
) -> RunReport:
    """Gather the report of a recorded run, at its end or later; results that are not stored (any more) are left out.

    Of a member of a matrix, `names` are those of its stages in the run, and `shown` the stages that another member
    shows, which stand here with their metrics alone; so do examples and maps where it is not `illustrated`. Nothing
    that is missing or cannot be read makes this fail: it becomes a note in the report.
    """
    damage: list[str] = []
    about, events = _recorded(record.about, RunAbout(), damage), _recorded(record.events, [], damage)
    states = _states(about, events)
    notes = [event.get("text", "") for event in events if event["event"] == "note"]
    notes += damage
    stages = []
    for name, declaration in spec.stages.items():
        in_run = (names or {}).get(name, name)
        if shown and in_run in shown:
            stages.append(_shared(name, *shown[in_run]))
            continue
        key = str(about.get("keys", {}).get(in_run, ""))
        state, detail = states.get(in_run, ("", ""))
        stage = StageReport(name, declaration.use, key, state, detail=detail)
        try:
            folder = store.fetch(key) if key else None
        except StoreError as error:
            folder = None
            if type(error) is not NotStored:
                notes.append(f"the stored result of {name} cannot be shown: {error}")
        if folder is not None:
            try:
                _fill(stage, folder, spec, notes, illustrated)
            except Exception as error:
                # One result that cannot be read must not cost the others.
                notes.append(f"the stored result of {name} cannot be shown: {type(error).__name__}: {error}")
        stages.append(stage)
    started, ended = about.get("started", ""), about.get("ended") or (events[-1]["time"] if events else "")
    return RunReport(
        name=spec.report.title or spec.name,
        run_id=record.id,
        status=_status(about if names is None else {"status": "running"}, stages),
        started=started,
        seconds=_between(started, ended),
        seed=spec.seed,
        engine=str(about.get("engine", "")),
        stages=stages,
        notes=notes,
        spec=spec.to_yaml(),
        data=_data(spec, stages),
    )


def _recorded(read: Callable[[], T], otherwise: T, damage: list[str]) -> T:
    """A part of a run's record; what cannot be read is `otherwise`, and told in `damage`."""
    try:
        return read()
    except StoreError as error:
        damage.append(str(error))
        return otherwise


def _states(about: RunAbout, events: Sequence[Event]) -> dict[str, tuple[str, str]]:
    states = {name: (str(state), "") for name, state in (about.get("stages") or {}).items()}
    for event in events:
        if event["event"] == "stage":
            states[event.get("stage", "")] = (event.get("state", ""), event.get("detail", ""))
    return states


def _status(about: RunAbout, stages: Sequence[StageReport]) -> str:
    """The run's status; while its report is being written the run itself is still open. A member's is its stages'."""
    status = str(about.get("status", ""))
    if status != "running":
        return status
    if any(stage.state == "failed" for stage in stages):
        return "failed"
    return "completed" if all(stage.state in SETTLED for stage in stages) else "running"


def _between(started: str, ended: str) -> float | None:
    try:
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    except ValueError:
        return None


def _shared(name: str, member: str, stage: StageReport) -> StageReport:
    """A stage that another member of the matrix shows."""
    state = "cached" if stage.state == "done" else stage.state
    bare = replace(stage, name=name, state=state, detail=f"shared with {member}, which shows it")
    return replace(bare, figures=[], examples=[], map=None, history=[])


def _fill(stage: StageReport, folder: Path, spec: Spec, notes: list[str], illustrated: bool) -> None:
    about = StageRecord(folder).read()
    stage.seconds, stage.started = about.get("seconds"), about.get("started", "")
    stage.environment = about.get("environment") or {}
    stage.remarks = list(about.get("remarks", []))
    stage.folder = str(folder)
    measured = MetricsArtifact(folder).read()
    stage.metrics = MetricsArtifact(folder).metrics()
    stage.rows, stage.data = measured.get("rows"), measured.get("data")
    stage.reads = [name for name in measured.get("reads", []) if name]
    stage.figures = [Figure(title, data) for title, data in (measured.get("figures") or {}).items()]
    stage.skipped = dict(measured.get("skipped", {}))
    stage.notes = list(measured.get("notes", []))
    stage.map = MetricsArtifact(folder).map() if illustrated else None
    stage.training, stage.history = HistoryArtifact(folder).summary(), HistoryArtifact(folder).lines()
    if not measured and (name := spec.scope(stage.name).data_name):
        stage.data, stage.reads = name, [name]
    if stage.training:
        stage.rows = stage.training.get("samples")
        stage.skipped = dict.fromkeys(stage.reads, stage.training.get("skipped", {}))
    if illustrated and (examples := measured.get("examples")):
        try:
            stage.examples = _examples(examples, spec, stage.name)
        except Exception as error:
            # The data may have moved since the run; numbers are worth showing without images.
            notes.append(f"examples of {stage.name} are not shown: {type(error).__name__}: {error}")


def _examples(raw: Sequence[StoredExample], spec: Spec, stage: str) -> list[tuple[str, list[Example]]]:
    from mmflow.data import sample_fields

    source = spec.scope(stage).source
    if source is None:
        return []
    ids = list(dict.fromkeys(id for example in raw for id in [example["query"], *example["found"]]))
    known = source.fields()
    fields = {example[side] for example in raw for side in ("field", "field_found") if example.get(side) in known}
    samples = sample_fields(source, ids, sorted(fields))
    rows: dict[tuple[str, str], ShownRow] = {}

    def shown(id: str, name: str) -> ShownRow:
        if (id, name) not in rows:
            value = _shown(samples[id].get(name), known[name]) if name in known else Shown("text", "")
            rows[id, name] = ShownRow(id, value)
        return rows[id, name]

    grouped: dict[str, list[Example]] = {}
    for example in raw:
        title = f"{example['field']} to {example['field_found']}"
        found = [
            (shown(id, example["field_found"]), bool(right))
            for id, right in zip(example["found"], example["right"], strict=True)
        ]
        grouped.setdefault(title, []).append(Example(shown(example["query"], example["field"]), found))
    return list(grouped.items())


def _shown(value: RawValue, declared: TensorType) -> Shown:
    """A value as its modality shows it; of a group (captions, frames), the first member."""
    value = first_member(value, declared)
    return Shown("text", "") if value is None else modality(declared.modality).show(value, declared)


def _data(spec: Spec, stages: Sequence[StageReport]) -> list[EntryReport]:
    from mmflow.data import count_of

    entries = []
    for name, source in spec.data.items():
        read = [s for s in stages if name in s.reads]
        skipped = {id: reason for s in read for id, reason in s.skipped.get(name, {}).items()}
        entries.append(
            EntryReport(
                name=name,
                use=source.use,
                rows=_attempt(lambda source=source: count_of(source)),
                fields=_attempt(lambda source=source: {n: _says(t) for n, t in source.fields().items()}) or {},
                read_by=[s.name for s in read],
                skipped=skipped,
                left_out=_attempt(lambda source=source: [str(found) for found in source.left_out()]) or [],
                caveats=_attempt(lambda source=source: [*source.caveats()]) or [],
            )
        )
    return entries


def _says(type_: TensorType) -> str:
    sizes = "×".join("?" if size is None else str(size) for size in type_.size)
    axes = f" per {', '.join(type_.axes[1:])}" if len(type_.axes) > 1 else ""
    classes = f" of {len(type_.names)} classes" if type_.names else ""
    return f"{type_.modality}{f' {sizes}' if sizes else ''}{classes}{axes}"


def _attempt(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Exception:
        # Data that has moved since the run: the report does without its size.
        return None
