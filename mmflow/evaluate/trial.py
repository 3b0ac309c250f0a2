"""A trial of an evaluator before anything is trained: its method, on rows of the data and vectors drawn at random.

Whatever an evaluator cannot measure (texts where it takes numbers, no group axis to choose from, too few classes) shows
here. Outputs of encoders are stood in for by random numbers of their shapes; columns, and fields that are measured
themselves, are the data's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmflow.data import Batch, ColumnRequest, count_of, sample_of, scan, static_columns, static_ids
from mmflow.data.blanks import blank_source, made_by_stages
from mmflow.evaluate.harness import Measurement
from mmflow.evaluate.parts import values_of
from mmflow.evaluate.reading import encoding_of
from mmflow.evaluate.rows import Rows, Wanted
from mmflow.model.received import Outputs, shown, unlike
from mmflow.model.rehearsal import said, said_by
from mmflow.model.shapes import CheckedSpec, ShapeCheck, ShapeReport, placed
from mmflow.plugin.addresses import address
from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.kinds import Evaluator, Source, StageScope, StageSpec
from mmflow.plugin.numbers import Clock, Learned, Value
from mmflow.plugin.samples import SampleError
from mmflow.plugin.targets import STAGE, Owner, Place, Target
from mmflow.plugin.values import SAMPLE, Argument, Encoding, EvaluationResult, RawValue, Tokens
from mmflow.spec.text.problems import Problem, did_you_mean

ROWS = 48
"""Rows that an evaluator is tried on first."""
SEEN = 4
"""Rows that tell whether anything may be absent."""
MOST = 2_000
"""Rows at most that it is tried on where so few are too few for it."""


class StageCheck(ShapeCheck):
    """Everything about stages that can be known before the first step: shapes, and a trial of each evaluator."""

    def of(
        self, spec: CheckedSpec, stages: Collection[str] | None = None, running: StageScope | None = None
    ) -> ShapeReport:
        report = super().of(spec, stages, running)
        refused = list(report.problems)
        for name, outputs in report.outputs.items():
            evaluator, scope = spec.stages[name], spec.scope(name) if running is None else running
            if isinstance(evaluator, Evaluator) and not made_by_stages(scope):
                found = trial(Tried(spec, scope, name, outputs), evaluator, judged_of(spec, name))
                # Widths that a loss has refused are the same mistake.
                again = found is not None and bool(refused) and unlike(scope, outputs)
                report.problems += [placed(spec, name, found)] if found is not None and not again else []
        return report


def judged_of(spec: CheckedSpec, stage: str) -> Mapping[str, str]:
    """The metrics of a stage that end a repetition, each with the repetition's name."""
    judging = [one for one in spec.repeats.values() if one.until is not None]
    return {one.judged[1]: one.name for one in judging if one.stage(0, one.judged[0]) == stage}


@dataclass(frozen=True)
class Tried:
    """What the core knows before any work: the spec, the stage's view of it, and shapes of its encodings."""

    spec: StageSpec
    scope: StageScope
    name: str
    outputs: Outputs

    def source(self, data: Target | None) -> Source:
        found = blank_source(self.scope, None if data is None else self.spec.data.get(data.name))
        if found is None:
            raise Unknown
        return found


def trial(tried: Tried, evaluator: Evaluator, judged: Mapping[str, str]) -> Problem | None:
    """The mistake that an evaluator would end with; None where it works, or where that cannot be known.

    `judged` are metrics that it must measure, by the names of the repetitions that they end.
    """
    error = _error(tried, evaluator, ROWS, judged)
    if isinstance(error, ComponentError | ValueError) and (least := _fewest(tried)) > ROWS:
        # So few rows may lack a class, or a pair.
        error = _error(tried, evaluator, MOST, judged) if least <= MOST else None
    return None if error is None else said(error, tried.name, evaluator.use)


def _error(tried: Tried, evaluator: Evaluator, rows: int, judged: Mapping[str, str]) -> Exception | None:
    given: Sequence[Encoding] = ()
    try:
        with warnings.catch_warnings(), torch.no_grad(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for dim in (None, *evaluator.dims):
                measurement = Measurement(evaluator, _Context(tried), StandIn(tried, rows), dim=dim)
                given = measurement.rows.of
                measured = measurement.call()
                if not measured.metrics and measured.notes:
                    return ComponentError(f"{evaluator.use} has nothing to measure: {'; '.join(measured.notes)}")
                if (missing := _not_measured(measured, judged)) is not None and dim is None:
                    return missing
    except (Unknown, SampleError):
        # Samples that cannot be read are told where samples are read.
        return None
    except (ComponentError, ValueError) as error:
        return error
    except Exception as error:  # evaluators may raise anything
        return _unlike(evaluator, given, error) if given else error
    return None


def _not_measured(measured: EvaluationResult, judged: Mapping[str, str]) -> ComponentError | None:
    """The message for a metric that ends a repetition and is none, or has no better direction."""
    known = {metric.name: metric for metric in measured.metrics}
    for name, repetition in judged.items():
        if name not in known:
            hint = did_you_mean(name, [n for n, m in known.items() if m.better], most=20)
            return ComponentError(f"until.metric of {repetition}: the stage measures no `{name}`", hint=hint or "")
        if not known[name].better:
            message = f"until.metric of {repetition}: neither more nor less of `{name}` is better"
            return ComponentError(message, hint="name another metric")
    return None


def _unlike(evaluator: Evaluator, given: Sequence[Encoding], error: Exception) -> ComponentError:
    """The message for an error of Python or torch, which tells nothing of what was given."""
    names = [str(one) for one in evaluator.of] or ["of"] * len(given)
    forms = [f"{name} {shown(next(iter(one.outputs.values())))}" for name, one in zip(names, given, strict=False)]
    return ComponentError(f"{evaluator.use} cannot measure {' and '.join(forms)}: {said_by(error)}")


def _fewest(tried: Tried) -> int:
    """Rows of the smallest entry of data that the stage reads, where that is known."""
    further = [t for p, t in tried.scope.targets(STAGE).items() if t.section == "data" and p[0] != "data"]
    counts = [count_of(tried.source(data)) for data in (None, *further)]
    return min((count for count in counts if count is not None), default=ROWS)


class Unknown(Exception):
    """Something that a trial has no stand-in for."""


@dataclass(frozen=True)
class StandIn:
    """Rows with columns of the data and random encodings, in place of `Embedder`."""

    tried: Tried
    most: int

    def rows(self, wanted: Sequence[Wanted], fields: Mapping[Place, Target], data: Target | None = None) -> Rows:
        source = self.tried.source(data)
        static = [place for place, target in fields.items() if self.tried.scope.type_of(target).static]
        encoded = [want for want in wanted if want.encoded]
        own = {str(want.target): want.target.as_field for want in wanted if not want.encoded}
        if any(self.tried.scope.type_of(target).static for target in own.values()):
            raise Unknown
        if static or any(self._known(want).axes[:1] != (SAMPLE,) for want in encoded):
            if own or len(static) < len(fields):
                raise Unknown
            return self._whole(source, wanted, fields, data)
        targets = {str(place): target.as_field for place, target in fields.items()}
        batch = self.batch(source, targets | own, self.most)
        present = Presence(self, source, {want.target.owner for want in encoded if want.target.stage is None})
        of = tuple(
            present.on(self._encoding(want, len(batch.ids), data), want)
            if want.encoded
            else encoding_of(batch.columns[str(want.target)])
            for want in wanted
        )
        return Rows(of, {place: values_of(batch.columns[str(place)]) for place in fields}, batch.ids)

    def _whole(
        self, source: Source, wanted: Sequence[Wanted], fields: Mapping[Place, Target], data: Target | None
    ) -> Rows:
        """All rows of an axis of their own, such as the nodes of one big graph; those of the first input count."""
        types, static = source.fields(), source.open().static()
        read = static_columns(source, [ColumnRequest(str(place), target) for place, target in fields.items()])
        known = [self._known(want) for want in wanted]
        sizes = [int(next(_tensors(one)).shape[0]) for one in known]
        axes = [*(one.axes[0] for one in known), *(types[target.name].axes[0] for target in fields.values())]
        largest = max([*sizes, *(len(column) for column in read.values())], default=0)
        own = {declared.axes[0] for declared in types.values() if declared.static}
        if SAMPLE in axes or axes[0] not in own or largest > MOST:
            raise Unknown
        of = tuple(
            drawn(one, rows, str(want.target), str(data or ""))
            for want, one, rows in zip(wanted, known, sizes, strict=True)
        )
        values = {place: values_of(read[str(place)]) for place in fields}
        return Rows(of, values, static_ids(types, static, axes[0]))

    def batch(self, source: Source, targets: Mapping[str, Target], rows: int) -> Batch:
        """Columns of so many rows from all over the data, by key."""
        if any(self.tried.scope.type_of(target).static for target in targets.values()):
            raise Unknown
        requests = [ColumnRequest(key, target) for key, target in targets.items()]
        views = self.tried.scope.views
        if source.streaming() is not None:
            batch = next(iter(scan(source, views, requests, batch_size=rows)), None)
        else:
            count = count_of(source) or 0
            places = sorted({count * place // rows for place in range(rows)}) if count else []
            batch = sample_of(source, views, requests, places) if count else None
        if batch is None or not batch.ids:
            raise Unknown
        return batch

    def _known(self, want: Wanted) -> Encoding:
        """Outputs of an encoder as rows without values."""
        known = self.tried.outputs(want.target, want.outputs)
        if known is None:
            raise Unknown
        return known

    def _encoding(self, want: Wanted, rows: int, data: Target | None) -> Encoding:
        known = self._known(want)
        # By what is referred to: a reference that stands twice leads to equal vectors.
        return drawn(known, rows, str(want.target), str(data or ""))

    def model(self, roots: Sequence[Owner], stage: str | None = None) -> StandInModel:
        return StandInModel(self.tried, stage)

    def weights(self) -> dict[str, Tensor]:
        raise Unknown


class Presence:
    """Which rows have the outputs of encoders. Raw data is read for that only where some of it is seen to be absent."""

    def __init__(self, rows: StandIn, source: Source, encoders: Collection[Owner]) -> None:
        self.scope = rows.tried.scope
        leaves = {target for owner in encoders for target in self._leaves(owner)}
        targets = {str(number): target for number, target in enumerate(leaves)}
        self.known: dict[Target, Tensor | None] = dict.fromkeys(leaves)
        if targets and any(c.present is not None for c in rows.batch(source, targets, SEEN).columns.values()):
            columns = rows.batch(source, targets, rows.most).columns
            self.known = {target: columns[key].present for key, target in targets.items()}

    def on(self, encoding: Encoding, want: Wanted) -> Encoding:
        """The encoding with the presence of its rows; members of a group are there together."""
        present = self._of(want.target.owner) if want.target.stage is None else None
        if present is None:
            return encoding
        first = next(iter(encoding.outputs.values()))
        shape = (first.mask if isinstance(first, Tokens) else first).shape[: len(encoding.axes)]
        rows = present.flatten(1).any(1) if present.ndim > 1 else present
        return replace(encoding, present=rows.reshape(-1, *[1] * (len(shape) - 1)).expand(shape))

    def _leaves(self, owner: Owner) -> Iterator[Target]:
        for target in self.scope.inputs(owner).values():
            if target.section == "encoders" and target.stage is None:
                yield from self._leaves(target.owner)
            elif target.section in ("fields", "views") and not self.scope.type_of(target).static:
                yield _whole(target)

    def _of(self, owner: Owner) -> Tensor | None:
        inputs = []
        for target in self.scope.inputs(owner).values():
            inner = target.section == "encoders" and target.stage is None
            present = self._of(target.owner) if inner else self.known.get(_whole(target))
            if present is not None and present.ndim > 1:
                present = present.flatten(1).any(1)
            inputs.append(Encoding({}, ("sample",), present))
        try:
            return self.scope.structure(owner).encoder.presence(inputs)
        except StopIteration:  # it looks at the outputs of its inputs, which are not there
            return None


def _tensors(encoding: Encoding) -> Iterator[Tensor]:
    for value in encoding.outputs.values():
        yield value.values if isinstance(value, Tokens) else value


def _whole(target: Target) -> Target:
    return replace(target, index=None, detach=False)


@dataclass(frozen=True)
class StandInModel:
    """The model that an evaluator may ask for: it gives random vectors for the values that it is given."""

    tried: Tried
    stage: str | None

    def encode_values(self, encoder: str, values: Sequence[RawValue], outputs: Sequence[str] = ("pooled",)) -> Encoding:
        known = self.tried.outputs(Target("encoders", encoder, stage=self.stage), {name: name for name in outputs})
        if known is None:
            raise Unknown
        return replace(drawn(known, len(values), encoder, "values"), axes=("sample",))

    def built_for_stage(self, field: str) -> Argument:
        held = dict(self.tried.scope.held(STAGE)).get((field,))
        if isinstance(held, Learned):
            return torch.tensor(held.init)
        if isinstance(held, Value):
            return held.at(Clock(0, 1))
        if not isinstance(held, Component) or hasattr(held, "build"):
            raise Unknown
        return held


@dataclass(frozen=True)
class _Context:
    """The part of a stage's context that the arguments of an evaluator come from."""

    tried: Tried

    @property
    def scope(self) -> StageScope:
        return self.tried.scope

    @property
    def name(self) -> str:
        return self.tried.name

    def service(self, *place: str | int) -> Argument:
        # It answers once the stage runs.
        raise Unknown


def drawn(known: Encoding, rows: int, *at: str) -> Encoding:
    """Random numbers for `rows` rows in the shapes of an encoding; zeros for whole numbers."""
    outputs: dict[str, Argument] = {}
    for name, value in known.outputs.items():
        generator = torch.Generator().manual_seed(address(0, "trial", *at, name))

        def like(tensor: Tensor, generator: torch.Generator = generator) -> Tensor:
            shape = (rows, *tensor.shape[1:])
            if tensor.is_floating_point():
                return torch.randn(shape, generator=generator)
            return torch.zeros(shape, dtype=tensor.dtype)

        if isinstance(value, Tokens):
            mask = torch.ones((rows, *value.mask.shape[1:]), dtype=torch.bool)
            outputs[name] = Tokens(like(value.values), mask)
        elif isinstance(value, Tensor):
            outputs[name] = like(value)
        else:
            raise Unknown
    return Encoding(outputs, known.axes)
