"""Runs an evaluator as a stage: embeds, binds the arguments of its method, checks and writes its result."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from mmflow.artifacts import Measured, MetricsArtifact, StoredItems
from mmflow.evaluate.fields import ModelGiver, UsedModel, field_behind, texts_behind, wanted
from mmflow.evaluate.map import embedding_map
from mmflow.evaluate.remarks import alike, guessing, shared_samples
from mmflow.evaluate.rows import Embedder, Rows, Wanted
from mmflow.model.leading import leading
from mmflow.plugin.addresses import address
from mmflow.plugin.authors import place_of
from mmflow.plugin.binding import binding
from mmflow.plugin.component import Component, ComponentError, Shared
from mmflow.plugin.failures import inside
from mmflow.plugin.kinds import Evaluator, Service, StageContext, StageScope, StageSpec
from mmflow.plugin.modality import modality
from mmflow.plugin.numbers import Value
from mmflow.plugin.references import Data, Encoded, Labels, Ref, reference_fields
from mmflow.plugin.targets import STAGE, Place, Target
from mmflow.plugin.values import ABSENT, NUMBERS, Argument, Encoding, EvaluationResult, Metric, TensorType
from mmflow.spec.references.forms import needed_outputs

LABEL_OF_MAP: Place = ("map label",)
TEXTS = "texts"
_OF_THE_CORE = ("of", "model", "data", "fields", "replace")
"""Fields with references that the method receives in another form, or not at all."""


@torch.no_grad()
def run_evaluator(evaluator: Evaluator, context: StageContext) -> None:
    """Measure, and write the metrics and a map of the embeddings into the stage's output.

    `evaluate` receives the encodings of `of` in order, and its other parameters by name: columns of the
    data for references to fields, `Rows` for a reference to a further data entry (and for `data`), built
    sub-components, numbers, `ids` and `model`. Raises `ComponentError` where a metric is not a finite number.
    """
    started = time.perf_counter()
    embedder = Embedder(context, evaluator.batch_size)
    bound = Measurement(evaluator, context, embedder)
    measured = bound.call()
    for dim in evaluator.dims:
        _add(measured, Measurement(evaluator, context, embedder, dim=dim).call(), dim)
    _check_finite(measured, context.name)
    rows = bound.rows
    for example in measured.examples:
        example["field"] = field_behind(context.scope, example["field"])
        example["field_found"] = field_behind(context.scope, example["field_found"])
    content: Measured = {
        "metrics": [metric.stored() for metric in measured.metrics],
        "examples": measured.examples,
        "figures": measured.figures,
        "notes": measured.notes,
        "rows": len(bound.measured_rows),
        "data": bound.reads[-1],
        "reads": bound.reads,
        "skipped": _skipped(bound),
        "seconds": round(time.perf_counter() - started, 3),
    }
    for remark in _remarks(measured, bound, context):
        context.remark(remark)
    items = {m.name: StoredItems.of(m.items, bound.measured_rows.ids) for m in measured.metrics if m.items is not None}
    drawn = embedding_map([str(name) for name in evaluator.of], rows.of, rows.ids, bound.map_labels())
    MetricsArtifact(context.output).write(content, drawn, items)
    context.report.table("metrics", [metric_row(metric) for metric in measured.metrics])
    if measured.notes:
        context.report.markdown("notes", "\n\n".join(measured.notes))


def _skipped(bound: Measurement) -> dict[str, dict[str, str]]:
    """By entry of data: the samples that were left out, with the reason."""
    found: dict[str, dict[str, str]] = {}
    for name, rows in zip(bound.reads, bound.all_rows, strict=False):
        if name is not None and rows.skipped:
            found[name] = {**found.get(name, {}), **rows.skipped}
    return found


def _add(measured: EvaluationResult, shorter: EvaluationResult, dim: int) -> None:
    """Add what was measured on the first `dim` numbers of vectors."""
    said = f"first {dim}"
    for metric in shorter.metrics:
        group = f"{metric.group}, {said}" if metric.group else said
        measured.metrics.append(replace(metric, name=f"{metric.name}_d{dim}", group=group))
    measured.notes += [f"{said}: {note}" for note in shorter.notes if note not in measured.notes]


def _remarks(measured: EvaluationResult, bound: Measurement, context: StageContext) -> Iterator[str]:
    """What the evaluator says of its result, and what its metrics, vectors and data say themselves."""
    yield from measured.remarks
    scope, spec = bound.scope, context.spec
    if scope.model is not None or not spec.trains:
        # An untrained model beside a trained one is there to be compared with.
        yield from guessing(measured.metrics)
        for name, encoding in zip(bound.evaluator.of, bound.rows.of, strict=True):
            yield from alike(str(name), encoding)
    name = bound.reads[-1]
    if name is None or name not in spec.data:
        return
    fields = [owner.name for owner in scope.reach(*scope.roots()) if owner.section == "fields"]
    # An entry of data has no name of a stream before its fields.
    streams = tuple(f"{stream}." for stream in bound.evaluator.streams())
    fields = [field.partition(".")[2] if field.startswith(streams) else field for field in fields]
    learned = {other: "which it learns from" for other in bound.reads[:-1] if other is not None}
    learned = {**dict.fromkeys(_training_data(scope, spec), "which the model was trained on"), **learned}
    for other, doing in learned.items() if name not in learned else ():
        if other not in spec.data:
            continue
        yield from shared_samples((name, spec.data[name]), (other, spec.data[other]), fields, doing)


def _training_data(scope: StageScope, spec: StageSpec) -> Iterator[str]:
    """Entries of data that the stage's model was trained on, the newest first."""
    stage = scope.model
    while stage is not None:
        scope = spec.scope(stage)
        data = scope.data.values() if isinstance(scope.data, Mapping) else [scope.data]
        yield from (str(one) for one in data if one is not None)
        stage = scope.start


def metric_row(metric: Metric) -> dict[str, str | float]:
    """A metric as a row of a table."""
    return {
        "of": metric.group,
        "metric": metric.heading,
        "value": round(metric.value, 4),
        "unit": metric.unit,
        "95 %": "" if metric.interval is None else "{:.4f} to {:.4f}".format(*metric.interval),
        "chance": "" if metric.chance is None else round(metric.chance, 4),
        "better": metric.better,
    }


class Measuring(Protocol):
    """The part of a stage's context that the arguments of an evaluator come from."""

    @property
    def name(self) -> str: ...
    @property
    def scope(self) -> StageScope: ...
    def service(self, *place: str | int) -> Argument: ...


class RowGiver(ModelGiver, Protocol):
    """Rows of data entries with their encodings, and models: an `Embedder`, or the stand-in of a trial."""

    def rows(self, wanted: Sequence[Wanted], fields: Mapping[Place, Target], data: Target | None = None) -> Rows: ...


class Measurement:
    """The arguments of one evaluator's method, on the rows that `embedder` gives."""

    def __init__(self, evaluator: Evaluator, context: Measuring, embedder: RowGiver, *, dim: int | None = None) -> None:
        """`dim`: vectors have their first numbers alone."""
        self.evaluator, self.context, self.embedder, self.dim = evaluator, context, embedder, dim
        self.scope = context.scope
        self.targets = self.scope.targets(STAGE)
        self.needs = needed_outputs(self.scope, STAGE)
        self.wanted = [self._wanted(place) for place in self._places("of")]
        types = reference_fields(type(evaluator))
        self.further = {n: t for n, t in types.items() if n not in _OF_THE_CORE}
        self.data = [n for n, kinds in self.further.items() if Data in kinds and getattr(evaluator, n) is not None]
        self.beside = [p for n in self.further for p in self._places(n) if self.targets[p].section == "encoders"]
        self.texts = texts_behind(self.scope, evaluator)
        self.rows = self._rows()
        self.all_rows = [self.rows]

    def _rows(self, data: Target | None = None, fields: Mapping[Place, Target] | None = None) -> Rows:
        """The rows of an entry of data, with the outputs of encoders that other references than `of` lead to."""
        wanted = [*self.wanted, *(self._wanted_beside(place) for place in self.beside)]
        rows = self.embedder.rows(wanted, self._fields() if fields is None else fields, data)
        count = len(self.wanted)
        if self.dim is not None:
            rows = replace(rows, of=leading(rows.of, self.dim, self.evaluator.use))
        beside = {p: self._form(p, found) for p, found in zip(self.beside, rows.of[count:], strict=True)}
        return replace(rows, of=rows.of[:count], fields={**rows.fields, **beside})

    def _wanted_beside(self, place: Place) -> Wanted:
        target = self.targets[place]
        whole = Encoded in self.further[str(place[0])] and target.output is None
        outputs = self.needs if whole else (target.output or "pooled",)
        return Wanted(target, {name: name for name in outputs})

    def _form(self, place: Place, found: Encoding) -> Argument:
        """A whole encoding for a reference to an encoder, a tensor or `Tokens` for one to an output."""
        if Encoded in self.further[str(place[0])] and self.targets[place].output is None:
            return found
        return next(iter(found.outputs.values()))

    @property
    def reads(self) -> list[str | None]:
        """Names of the data entries: the stage's own, then further ones; the last is the one that is measured on."""
        return [self.scope.data_name, *(str(self.targets[name,]) for name in self.data)]

    @property
    def measured_rows(self) -> Rows:
        return self.all_rows[-1]

    def _places(self, field: str) -> list[Place]:
        """Places of the references in a field, in order."""
        return [place for place in self.targets if place[0] == field]

    def _wanted(self, place: Place) -> Wanted:
        target = self.targets[place]
        if target.section != "encoders":
            return Wanted(target, {"pooled": "pooled"})
        return wanted(self.scope, place, target)

    def _fields(self) -> dict[Place, Target]:
        """References to fields and views by place, and a label for the map where the data has one."""
        found = {place: self.targets[place] for name in self.further for place in self._places(name)}
        found = {place: target for place, target in found.items() if target.section in ("fields", "views", "stages")}
        if self.wanted and (label := self._label()) is not None:
            found[LABEL_OF_MAP] = Target("fields", label)
        return found | {(TEXTS, field): Target("fields", field) for field in self.texts if field is not None}

    def _label(self) -> str | None:
        """The field that colors the map: the one that `labels` names, else the first label of the data."""
        asked = self.targets.get(("labels",))
        if asked is not None and asked.section in ("fields", "stages"):
            return asked.as_field.name
        fields = self.scope.fields.items()
        return next((n for n, t in fields if len(t.axes) == 1 and modality(t.modality).classes), None)

    def map_labels(self) -> list[str] | None:
        """One class name (or number) a row, where the data has a label."""
        column, label = self.rows.fields.get(LABEL_OF_MAP), self._label()
        if not isinstance(column, Tensor) or column.ndim != 1 or label is None:
            return None
        declared = self.scope.source.fields()[label] if self.scope.source is not None else TensorType("label")
        says = modality(declared.modality).caption
        return ["" if number < 0 else says(number, declared) for number in column.tolist()]

    def call(self) -> EvaluationResult:
        """Call the method with the rows in `of`, its fields and its requests."""
        evaluator, count = self.evaluator, len(self.rows.of)
        bound = binding(evaluator, count=count)
        if (misfit := bound.misfit(count)) is not None:
            said = f"stage {self.context.name}: {evaluator.use} takes {misfit}"
            raise ComponentError(said, found=f"{count} in `of`")
        try:
            with inside(f"stage {self.context.name}", evaluator):
                measured = bound.call(evaluator.evaluate, self.rows.of, self._field, self._request)
                _check(measured, evaluator, self.context.name)
                return measured
        except ValueError as error:
            if isinstance(error, ComponentError):
                raise
            raise ComponentError(f"stage {self.context.name}: {error}") from error

    def _request(self, name: str) -> Argument:
        if name == "ids":
            return self.rows.ids
        if name == "texts_of":
            return tuple(None if field is None else self.rows.fields[TEXTS, field] for field in self.texts)
        if name == "generator":
            return torch.Generator().manual_seed(address(self.context.scope.seed, "draw", "stage", self.evaluator.use))
        # The field `model` says whose model it is; the method receives the model itself.
        return UsedModel(self.embedder, self.scope, dim=self.dim)

    def _field(self, name: str) -> Argument:
        value = getattr(self.evaluator, name)
        if name == "data":
            return self.rows
        if name in self.data:
            fields = {place: t for place, t in self._fields().items() if place != LABEL_OF_MAP and place[0] != TEXTS}
            rows = self._rows(self.targets[name,], fields)
            rows = replace(rows, fields=self._gathered(rows))
            self.all_rows.append(rows)
            return rows
        if name in self.further:
            # A word such as `auto` is no reference and stands for itself.
            return self._gathered(self.rows).get(name, None if isinstance(value, Ref) else value)
        if isinstance(value, (Component, Shared)):
            return self._built(name, value)
        return value

    def _gathered(self, rows: Rows) -> dict[str, Argument]:
        """Columns by the evaluator's fields: one value for a reference, a tuple for several."""
        gathered: dict[str, Argument] = {}
        for name in self.further:
            columns = []
            for place in self._places(name):
                target = self.targets[place]
                if place in rows.fields:
                    column = rows.fields[place]
                    columns.append(self._classes(name, column) if Labels in self.further[name] else column)
                elif name not in self.data:
                    raise ComponentError(f"stage {self.context.name}: `{name}` leads to {target.owner}")
            if isinstance(getattr(self.evaluator, name), tuple):
                gathered[name] = tuple(columns)
            elif columns:
                gathered[name] = columns[0]
        return gathered

    def _classes(self, name: str, column: Argument) -> Argument:
        """Labels as whole numbers, -1 where absent; distributions over classes [N, C] stay as they are."""
        if not isinstance(column, Tensor) or (column.is_floating_point() and column.ndim > 1):
            return column
        if not column.is_floating_point():
            return column.long().masked_fill(column.long() == ABSENT, -1)
        known = column[~column.isnan()]
        if not torch.equal(known, known.round()):
            raise ComponentError(f"stage {self.context.name}: `{name}` takes classes, and has numbers with fractions")
        return column.nan_to_num(-1.0).long()

    def _built(self, name: str, value: Component | Shared) -> Argument:
        """A sub-component; a component with weights, or from the spec's own entries, comes from the model; a service
        answers through the run store."""
        if isinstance(dict(self.scope.held(STAGE)).get((name,)), Service):
            return self.context.service(name)
        if isinstance(value, Shared | Value) or hasattr(value, "build"):
            return self.embedder.model(self.scope.roots()).built_for_stage(name)
        return value


def _check(measured: EvaluationResult, evaluator: Evaluator, stage: str) -> None:
    if not isinstance(measured, EvaluationResult):
        raise ComponentError(
            f"stage {stage}: evaluate() ({place_of(type(evaluator).evaluate)}) returned {type(measured).__name__}",
            expected="EvaluationResult", hint="return EvaluationResult([Metric(name, value), ...])",
        )  # fmt: skip
    names: set[str] = set()
    for metric in measured.metrics:
        if metric.name in names:
            raise ComponentError(
                f"stage {stage}: two metrics are named {metric.name!r}",
                hint="name each encoder once in `of`" if len(set(evaluator.of)) < len(evaluator.of) else "",
            )
        names.add(metric.name)
        if metric.items is not None and len(metric.items.scores) != len(metric.items.rows):
            counts = f"{len(metric.items.scores)} item scores of {len(metric.items.rows)} rows"
            raise ComponentError(f"stage {stage}: metric {metric.name!r} has {counts}")


def _check_finite(measured: EvaluationResult, stage: str) -> None:
    for metric in measured.metrics:
        numbers = [getattr(metric, field) for field in NUMBERS]
        if any(number is not None and not math.isfinite(number) for number in numbers):
            raise ComponentError(f"stage {stage}: metric {metric.name!r} is {metric.value}, not a finite number")
