"""`check --shapes`: build every stage's graph without memory and pass fake tensors through it.

Modules are built on the meta device; two real samples are read and preprocessed, and go through as fake tensors, so a
wrong dimension, a missing field or a wrong modality shows before any work. Untraceable nodes are named, not failed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)

from mmflow.data import ColumnBatch
from mmflow.kernels.dispatch import VARIABLE
from mmflow.model.graph import Graph, Node, Output
from mmflow.model.model import Model
from mmflow.model.outlook import StagedSpec
from mmflow.model.received import form_problems, received, score_problems, shown
from mmflow.model.rehearsal import (
    Counts,
    first_rows,
    other_data,
    problem_of,
    read_problems,
    rows_from_all_over,
    said,
    said_by,
    smallest_batch,
)
from mmflow.model.trained import trained_by_entry
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Encoder, Loss, Memory, Stage, StageScope
from mmflow.plugin.numbers import Clock
from mmflow.plugin.targets import STAGE, Owner, Target
from mmflow.plugin.values import Encoding
from mmflow.spec.components.entry import Entry
from mmflow.spec.text.problems import Problem

SAMPLES = 2
LEARNED_FROM = 64
"""Samples that tokenizers and the like learn from here: sizes of vocabularies are not what is checked."""

UNTRACEABLE = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
    NotImplementedError,
)


@dataclass
class ShapeReport:
    """`problems` are mistakes of the spec; `untraced` names components that were taken at their word, with the
    reason; `shapes` lists outputs as `encoders.image: pooled [2, 128]`."""

    problems: list[Problem] = field(default_factory=list)
    untraced: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    """By stage that trains, how many parameters of each entry do."""

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)


class CheckedSpec(StagedSpec, Protocol):
    """A whole spec with the places where its entries are written."""

    def place(self, stage: str, owner: Owner) -> Entry | None: ...


def check_shapes(spec: CheckedSpec, stages: Collection[str] | None = None) -> ShapeReport:
    """Check every stage of a resolved spec, or those of `stages`. Raises nothing: whatever fails is in the report."""
    report, counted = ShapeReport(), Counts()
    for name in spec.stages if stages is None else [name for name in spec.stages if name in stages]:
        scope = spec.scope(name)
        problems = len(report.problems)
        with _materialized(), torch.random.fork_rng(devices=[]):
            _check(report, spec, scope, name)
            if len(report.problems) == problems:
                report.problems += [_placed(spec, name, found) for found in read_problems(spec, scope, name, counted)]
    report.problems = list(dict.fromkeys(report.problems))
    report.untraced = list(dict.fromkeys(report.untraced))
    report.shapes = list(dict.fromkeys(report.shapes))
    return report


def _check(report: ShapeReport, spec: CheckedSpec, scope: StageScope, stage: str) -> None:
    declaration = spec.stages[stage]
    try:
        passes = {name: _begun(spec, scope, name, roots) for name, roots in _roots(declaration, scope).items()}
    except Exception as error:  # components, sources and files may raise anything
        report.problems.append(_placed(spec, stage, said(error, stage, declaration.use)))
        return
    if declaration.trains and None in passes:
        counts = ", ".join(trained_by_entry(passes[None].model, declaration.patterns()))
        report.trained.append(f"{stage}: trains {counts}")
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    problems: list[Problem] = []
    with mode:
        for one in passes.values():
            one.run(mode)
            problems += one.problems
            report.untraced += one.untraced
            report.shapes += one.shapes
        if not problems and not declaration.trains:
            found = received(scope, passes)
            problems += form_problems(declaration, scope, found)
            # Widths that a loss has refused are the same mistake.
            if not problems and not report.problems:
                problems += score_problems(declaration, scope, found, report.untraced, UNTRACEABLE)
    if declaration.trains and not problems:
        problems += _alone(spec, scope, declaration)
    report.problems += [_placed(spec, stage, problem) for problem in problems]


def _alone(spec: CheckedSpec, scope: StageScope, declaration: Stage) -> Iterator[Problem]:
    """What cannot take a micro-batch of one row (batch norm), where the stage will have one."""
    source = scope.source
    if source is None or source.streaming() is not None or smallest_batch(scope, source) != 1:
        return
    hint = (
        "leave a last batch of one row out (`sampler: {use: shuffle, drop_last: true}`), or write another `batch_size`"
    )
    for roots in _roots(declaration, scope).values():
        one = _begun(spec, scope, None, roots, rows=1)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            one.run(mode)
        for problem in one.problems:
            message = f"the stage has a micro-batch of one row: {problem.message}"
            yield replace(problem, message=message, hint=f"{hint} or `micro_batch_size`")


def _roots(declaration: Stage, scope: StageScope) -> dict[str | None, Sequence[Owner]]:
    """The entries to be rehearsed, by the stage whose model has them; None: the stage's own."""
    own = scope.roots()
    if declaration.trains:
        return {None: own} if own else {}
    # Losses and parts that an evaluator names lend it a number or a score: they are not run.
    own = tuple(owner for owner in own if owner.section == "encoders")
    roots: dict[str | None, Sequence[Owner]] = {None: own} if own else {}
    for target in scope.targets(STAGE).values():
        if target.section == "encoders" and target.stage is not None:
            roots[target.stage] = (*roots.get(target.stage, ()), target.owner)
    return {name: tuple(dict.fromkeys(owners)) for name, owners in roots.items() if scope.source is not None}


def _begun(
    spec: CheckedSpec, reader: StageScope, stage: str | None, roots: Sequence[Owner], rows: int = SAMPLES
) -> _Pass:
    """The model of `roots` without memory, and samples of all data that the stage `reader` reads, preprocessed."""
    scope = reader if stage is None else spec.scope(stage)
    source = reader.source
    assert source is not None
    states = Model.learn_states(scope, roots, source if stage is None else scope.source, limit=LEARNED_FROM)
    model = Model.create(scope, roots, seed=0, states=states, device="meta")
    requests = model.requests()
    sampled = [request for request in requests if request.target.section == "sampler"]
    read = [request for request in requests if request not in sampled]
    batch = first_rows(source, scope.views, read, rows)
    for request in sampled:
        dtype = getattr(torch, scope.type_of(request.target).dtype)
        batch.columns[request.key] = ColumnBatch(torch.zeros(batch.size, dtype=dtype))
    for data in other_data(reader):
        rows_from_all_over(spec.data[data], scope.views, read, data)
    rows_from_all_over(source, scope.views, read)
    model.device = torch.device("cpu")
    asked = [t for t in reader.targets(STAGE).values() if t.section == "encoders" and t.stage == stage]
    return _Pass(model, model.columns(batch), batch.ids, asked)


class _Pass:
    """One pass of fake tensors through a graph; nodes that follow a failure are left out."""

    def __init__(
        self, model: Model, columns: dict[str, Encoding], ids: list[str], asked: Sequence[Target] = ()
    ) -> None:
        self.model, self.columns, self.ids, self.asked = model, columns, ids, asked
        self.problems: list[Problem] = []
        self.untraced: list[str] = []
        self.shapes: list[str] = []
        self.execution = model.execution
        self.execution.clock = Clock(0, 1)
        self.values: dict[Owner, Encoding] = {}
        self.lost: set[Owner] = set()

    def run(self, mode: FakeTensorMode) -> None:
        """Pass fake tensors through the graph."""
        self.model.root.to_empty(device="cpu")
        self.columns = {key: encoding.map(partial(_faked, mode)) for key, encoding in self.columns.items()}
        for node in self.graph.working:
            if any(owner in self.lost for read in node.reads for owner, _ in read.outputs):
                self.lost.add(node.owner)
                continue
            component = node.structure
            if isinstance(component, Encoder) and component.untraceable:
                self._untraced(node, "it says that it cannot be traced")
                continue
            try:
                self._visit(node)
            except UNTRACEABLE as error:
                self._untraced(node, said_by(error))
            except (ComponentError, RuntimeError, TypeError, ValueError, IndexError, KeyError, AssertionError) as error:
                if "meta tensor" in str(error) or "FakeTensor" in str(error):
                    self._untraced(node, said_by(error))
                    continue
                self.lost.add(node.owner)
                path = tuple(filter(None, node.owner))
                reason = said_by(error)
                message = f"{node.component.use} does not fit its inputs ({self._inputs(node)}): {reason}"
                self.problems.append(problem_of(path, message, error))
            except Exception as error:  # a component of a plugin may raise anything
                self._untraced(node, said_by(error))

    @property
    def graph(self) -> Graph:
        return self.model.graph

    def given(self, output: Output) -> Encoding | None:
        """The rows of one output; None where it could not be traced."""
        owner, name = output
        found = self.values.get(owner) if isinstance(owner, Owner) else None
        if found is None or name not in found.outputs:
            return None
        return Encoding({name: found.outputs[name]}, found.axes, found.present)

    def _visit(self, node: Node) -> None:
        if isinstance(node.component, Loss):
            inputs = {r.place: self.execution.fetch(r, self._fetch) for r in node.reads if r.field != "rows"}
            self.execution.call(node, inputs, ids=self.ids)
        elif not isinstance(node.component, Memory):
            known = node.structure.taps() if isinstance(node.structure, Encoder) else ()
            taps = [t.output for t in self.asked if t.owner == node.owner and t.output in known]
            encoding = self.execution.encode(node, self._fetch, self.ids, ordinal=0, taps=taps)
            self.values[node.owner] = encoding
            for name, value in encoding.outputs.items():
                self.shapes.append(f"{node.owner}: {name} {shown(value)}")

    def _fetch(self, output: Output) -> Encoding | None:
        owner, name = output
        if isinstance(owner, str):
            return self.columns[owner]
        if owner in self.model.memories:
            return self._remembered(owner, name)
        found = self.values[owner]
        if name not in found.outputs:
            raise ComponentError(f"{owner} gives no {name!r}; it gives {', '.join(found.outputs)}")
        return Encoding({name: found.outputs[name]}, found.axes, found.present)

    def _remembered(self, owner: Owner, column: str) -> Encoding | None:
        """A memory that holds two rows; None where the size of a row is not known."""
        for read in self.model.graph.nodes[owner].reads:
            if read.field == "of" and str(read.place[-1]) == column:
                declared = self.model.scope.type_of(read.target)
                if None in declared.size:
                    return None
                shape = (SAMPLES, *(size for size in declared.size if size is not None))
                return Encoding({column: torch.zeros(shape, dtype=getattr(torch, declared.dtype))}, (str(owner),))
        return None

    def _untraced(self, node: Node, why: str) -> None:
        self.lost.add(node.owner)
        self.untraced.append(f"{node.owner} ({node.structure.use}): {why}")

    def _inputs(self, node: Node) -> str:
        shapes = []
        for read in node.reads:
            for owner, name in read.outputs:
                column = isinstance(owner, str)
                found = self.columns.get(owner) if isinstance(owner, str) else self.values.get(owner)
                if found is not None:
                    label = read.target.name if column else name
                    shapes.append(f"{label} {shown(found.outputs.get(name))}")
        return ", ".join(shapes) or "none"


@contextmanager
def _materialized() -> Iterator[None]:
    """Run the kernels' definitions, which fake tensors pass through; streaming forms read values to choose a path."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "reference"
    # Torch prints the traceback of what does not fit, which is told as a problem.
    log = logging.getLogger("torch._subclasses.fake_tensor")
    silent, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = silent
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def _placed(spec: CheckedSpec, stage: str, problem: Problem) -> Problem:
    """The problem at the line of the entry that it names: the stage's own, else the one that all stages share."""
    section, name, *rest = (*problem.path, "", "")
    if section == "stages":
        name = name or stage
    place = spec.place(stage, Owner(str(section), str(name)))
    if place is None:
        return problem
    further = tuple(part for part in rest if part)
    return place.problem(problem.message, further, key=not further, found=problem.found, expected=problem.expected,
                         hint=problem.hint)  # fmt: skip


def _faked(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    return mode.from_tensor(tensor)
