"""A trial of an evaluator before anything is trained: its method, on rows of the data and vectors drawn at random.

Whatever an evaluator cannot measure (texts where it takes numbers, no group axis to choose from, too few classes) shows
here. Outputs of encoders are stood in for by random numbers of their shapes; columns are the data's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmflow.data import Batch, ColumnRequest, count_of, sample_of, scan
from mmflow.evaluate.harness import Measurement
from mmflow.evaluate.parts import values_of
from mmflow.evaluate.rows import Rows, Wanted, row_key
from mmflow.model.rehearsal import said
from mmflow.model.shapes import CheckedSpec, ShapeReport, check_shapes, placed
from mmflow.plugin.addresses import address
from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.kinds import Evaluator, Source, StageScope, StageSpec
from mmflow.plugin.numbers import Clock, Learned, Value
from mmflow.plugin.samples import SampleError
from mmflow.plugin.targets import STAGE, Owner, Place, Target
from mmflow.plugin.values import Argument, Encoding, RawValue, Tokens
from mmflow.spec.text.problems import Problem

ROWS = 48
"""Rows that an evaluator is tried on first."""
SEEN = 4
"""Rows that tell whether anything may be absent."""
MOST = 2_000
"""Rows at most that it is tried on where so few are too few for it."""

Shapes = Callable[[str, Sequence[str]], Encoding | None]
"""Outputs of an encoder, of any rows; None where their shapes are not known."""


@dataclass(frozen=True)
class Tried:
    """What the core knows before any work: the spec, the stage's view of it, and shapes of its encodings."""

    spec: StageSpec
    scope: StageScope
    name: str
    shapes: Shapes


def check_stages(spec: CheckedSpec, stages: Collection[str] | None = None) -> ShapeReport:
    """Everything about stages of a resolved spec (all by default) that can be known before the first step.

    Raises nothing: whatever fails is in the report.
    """
    report = check_shapes(spec, stages)
    for name, shapes in report.encodings.items():
        evaluator = spec.stages[name]
        if isinstance(evaluator, Evaluator):
            found = trial(Tried(spec, spec.scope(name), name, shapes), evaluator)
            report.problems += [placed(spec, name, found)] if found is not None else []
    return report


def trial(tried: Tried, evaluator: Evaluator) -> Problem | None:
    """The mistake that an evaluator would end with; None where it works, or where that cannot be known."""
    counts = [count for data in _read(tried) if (count := _count(tried, data)) is not None]
    least = min(counts, default=ROWS)
    error = _error(tried, evaluator, ROWS)
    if isinstance(error, ComponentError | ValueError) and least > ROWS:
        # So few rows may lack a class, or a pair.
        error = _error(tried, evaluator, MOST) if least <= MOST else None
    return None if error is None else said(error, tried.name, evaluator.use)


def _error(tried: Tried, evaluator: Evaluator, rows: int) -> Exception | None:
    embedder = StandIn(tried, rows)
    try:
        with warnings.catch_warnings(), torch.no_grad(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            Measurement(evaluator, _Context(tried), embedder).call()
    except Unknown:
        return None
    except SampleError:
        # Told where samples are read.
        return None
    except Exception as error:  # evaluators may raise anything
        return error
    return None


def _read(tried: Tried) -> Iterator[str | None]:
    """Entries of data that the stage reads, None for its own."""
    yield None
    for place, target in tried.scope.targets(STAGE).items():
        if target.section == "data" and place[0] != "data":
            yield target.name


def _count(tried: Tried, data: str | None) -> int | None:
    source = tried.scope.source if data is None else tried.spec.data[data]
    return None if source is None else count_of(source)


class Unknown(Exception):
    """Something that a trial has no stand-in for."""


@dataclass
class StandIn:
    """Rows with columns of the data and random encodings, in place of `Embedder`."""

    tried: Tried
    most: int

    def rows(self, wanted: Sequence[Wanted], fields: Mapping[Place, Target], data: str | None = None) -> Rows:
        source = self.tried.scope.source if data is None else self.tried.spec.data[data]
        if source is None:
            raise Unknown
        batch = self.batch(source, {row_key(place): target for place, target in fields.items()}, self.most)
        present = Presence(self, source, {want.target.owner for want in wanted if want.target.stage is None})
        of = tuple(present.on(self._encoding(want, len(batch.ids), data), want) for want in wanted)
        return Rows(of, {place: values_of(batch, row_key(place)) for place in fields}, batch.ids)

    def batch(self, source: Source, targets: Mapping[str, Target], rows: int) -> Batch:
        """Columns of so many rows from all over the data, by key."""
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

    def _encoding(self, want: Wanted, rows: int, data: str | None) -> Encoding:
        target = want.encoder
        known = self.tried.shapes(target.name, want.outputs) if target.stage is None else None
        if known is None:
            raise Unknown
        # By encoder and output: a reference that stands twice leads to equal vectors.
        return want.of(drawn(known, rows, target.name, data or ""))

    def model(self, roots: Sequence[Owner], stage: str | None = None) -> StandInModel:
        return StandInModel(self.tried)


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
                yield replace(target, index=None, detach=False)

    def _of(self, owner: Owner) -> Tensor | None:
        inputs = []
        for target in self.scope.inputs(owner).values():
            inner = target.section == "encoders" and target.stage is None
            present = self._of(target.owner) if inner else self.known.get(replace(target, index=None, detach=False))
            if present is not None and present.ndim > 1:
                present = present.flatten(1).any(1)
            inputs.append(Encoding({}, ("sample",), present))
        try:
            return self.scope.structure(owner).encoder.presence(inputs)
        except StopIteration:  # it looks at the outputs of its inputs, which are not there
            return None


@dataclass(frozen=True)
class StandInModel:
    """The model that an evaluator may ask for: it gives random vectors for the values that it is given."""

    tried: Tried

    def encode_values(self, encoder: str, values: Sequence[RawValue], outputs: Sequence[str] = ("pooled",)) -> Encoding:
        known = self.tried.shapes(encoder, outputs)
        if known is None:
            raise Unknown
        return drawn(known, len(values), encoder, "values")

    def built_for_stage(self, name: str) -> Argument:
        held = dict(self.tried.scope.held(STAGE)).get((name,))
        if isinstance(held, Learned):
            return torch.tensor(held.init)
        if isinstance(held, Value):
            return held.at(Clock(0, 1))
        if not isinstance(held, Component) or hasattr(held, "build"):
            raise Unknown
        return held


@dataclass(frozen=True)
class _Context:
    """The part of a stage's context that binding its arguments needs."""

    tried: Tried
    device: str = "cpu"

    @property
    def spec(self) -> StageSpec:
        return self.tried.spec

    @property
    def scope(self) -> StageScope:
        return self.tried.scope

    @property
    def name(self) -> str:
        return self.tried.name

    def upstream(self, stage: str) -> Path:
        # Columns of stages are there only once these have run.
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
