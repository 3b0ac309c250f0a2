"""`check --shapes`: build every stage's graph without memory and pass fake tensors through it.

Modules are built on the meta device; two real samples are read and preprocessed, and go through as fake tensors, so a
wrong dimension, a missing field or a wrong modality shows before any work. Untraceable nodes are named, not failed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from mmflow.model.graph import Node, Output, face, needed_outputs
from mmflow.model.model import Model
from mmflow.model.outlook import StagedSpec
from mmflow.model.rehearsal import (
    first_rows,
    other_data,
    problem_of,
    read_problems,
    rows_from_all_over,
    said,
    said_by,
)
from mmflow.model.trained import trained_by_entry
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Encoder, Loss, Memory, Score, Stage, StageScope
from mmflow.plugin.numbers import Clock
from mmflow.plugin.targets import STAGE, Owner, Target
from mmflow.plugin.values import Argument, Encoding, Tokens
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
    report = ShapeReport()
    for name, declaration in spec.stages.items():
        if stages is not None and name not in stages:
            continue
        scope = spec.scope(name)
        roots = scope.roots()
        if not declaration.trains:
            # Losses and parts that an evaluator names lend it a number or a score: they are not run.
            roots = tuple(owner for owner in roots if owner.section == "encoders")
        problems = len(report.problems)
        with _materialized(), torch.random.fork_rng(devices=[]):
            if roots:
                _check(report, spec, scope, name, roots)
            if len(report.problems) == problems:
                report.problems += [_placed(spec, name, found) for found in read_problems(spec, scope, name)]
    report.problems = list(dict.fromkeys(report.problems))
    report.untraced = list(dict.fromkeys(report.untraced))
    report.shapes = list(dict.fromkeys(report.shapes))
    return report


def _check(report: ShapeReport, spec: CheckedSpec, scope: StageScope, stage: str, roots: Sequence[Owner]) -> None:
    source = scope.source
    if source is None:
        return
    try:
        states = Model.learn_states(scope, roots, source, limit=LEARNED_FROM)
        model = Model.create(scope, roots, seed=0, states=states, device="meta")
        requests = model.requests()
        sampled = [request for request in requests if request.target.section == "sampler"]
        read = [request for request in requests if request not in sampled]
        batch = first_rows(source, scope.views, read, SAMPLES)
        for request in sampled:
            dtype = getattr(torch, scope.type_of(request.target).dtype)
            batch.columns[request.key] = ColumnBatch(torch.zeros(batch.size, dtype=dtype))
        for data in other_data(scope):
            rows_from_all_over(spec.data[data], scope.views, read, data)
        rows_from_all_over(source, scope.views, read)
        model.device = torch.device("cpu")
        columns = model.columns(batch)
    except Exception as error:  # components, sources and files may raise anything
        report.problems.append(_placed(spec, stage, said(error, stage, spec.stages[stage].use)))
        return
    if spec.stages[stage].trains:
        counts = ", ".join(trained_by_entry(model, spec.stages[stage].patterns()))
        report.trained.append(f"{stage}: trains {counts}")
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        model.root.to_empty(device="cpu")
        columns = {key: encoding.map(partial(_faked, mode)) for key, encoding in columns.items()}
        one = _Pass(model, columns, batch.ids)
        one.run()
        if not report.problems and not one.problems:
            # Widths that a loss has refused are the same mistake.
            one.compare(spec.stages[stage], scope)
    report.problems += [_placed(spec, stage, problem) for problem in one.problems]
    report.untraced += one.untraced
    report.shapes += one.shapes


class _Pass:
    """One pass of fake tensors through a graph; nodes that follow a failure are left out."""

    def __init__(self, model: Model, columns: dict[str, Encoding], ids: list[str]) -> None:
        self.model, self.columns, self.ids = model, columns, ids
        self.problems: list[Problem] = []
        self.untraced: list[str] = []
        self.shapes: list[str] = []
        self.execution = model.execution
        self.execution.clock = Clock(0, 1)
        self.values: dict[Owner, Encoding] = {}
        self.lost: set[Owner] = set()

    def run(self) -> None:
        for node in self.model.graph.working:
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

    def compare(self, stage: Stage, scope: StageScope) -> None:
        """Run the scores in a stage's fields between the encodings that it compares."""
        asked = [target for place, target in scope.targets(STAGE).items() if place[0] == "of"]
        known = [self._asked(target) for target in asked if target.section == "encoders"]
        for place, score in scope.held(STAGE):
            if not isinstance(score, Score) or len(known) < 2 or hasattr(score, "build"):
                continue
            for target, found in zip(asked[1:], known[1:], strict=True):
                if known[0] is None or found is None:
                    continue
                try:
                    score.blocks(known[0], found)
                except UNTRACEABLE as error:
                    self.untraced.append(f"{stage.use} ({score.use}): {said_by(error)}")
                except Exception as error:
                    sizes = " and ".join(
                        f"{name} {_shape(next(iter(one.outputs.values())))}"
                        for name, one in ((asked[0], known[0]), (target, found))
                    )
                    message = f"{stage.use} cannot compare {sizes} by {score.use}: {said_by(error)}"
                    self.problems.append(problem_of(("stages", "", *map(str, place[:1])), message, error))
                    return

    def _asked(self, target: Target) -> Encoding | None:
        """The encoding that a stage's reference leads to, all rows of groups one after another; None where unknown."""
        if target.owner in self.lost or target.stage is not None:
            return None
        outputs = (target.output,) if target.output else needed_outputs(self.model.scope, STAGE)
        merged: dict[str, Tensor | Tokens] = {}
        for name in outputs:
            owner, inner = face(self.model.graph, target.owner, name)
            encoding = self.values.get(owner) if isinstance(owner, Owner) else None
            if encoding is None or inner not in encoding.outputs:
                return None
            merged["pooled" if target.output else name] = encoding.outputs[inner]
            if len(encoding.axes) > 1:
                return None
        return Encoding(merged)

    def _visit(self, node: Node) -> None:
        if isinstance(node.component, Loss):
            inputs = {r.place: self.execution.fetch(r, self._fetch) for r in node.reads if r.field != "rows"}
            self.execution.call(node, inputs, ids=self.ids)
        elif not isinstance(node.component, Memory):
            encoding = self.execution.encode(node, self._fetch, {"sample": self.ids}, ordinal=0)
            self.values[node.owner] = encoding
            for name, value in encoding.outputs.items():
                self.shapes.append(f"{node.owner}: {name} {_shape(value)}")

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
                    shapes.append(f"{label} {_shape(found.outputs.get(name))}")
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


def _shape(value: Argument) -> str:
    if isinstance(value, Tokens):
        return f"{list(value.values.shape)} with mask"
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__
