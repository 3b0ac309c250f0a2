"""`check --shapes`: build every stage's graph without memory and pass fake tensors through it.

Modules are built on the meta device; two real samples are read and preprocessed, and go through as fake tensors, so a
wrong dimension, a missing field or a wrong modality shows before any work. What cannot be traced is named, not failed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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

from mmflow.data import Batch, ColumnBatch, scan
from mmflow.kernels.dispatch import VARIABLE
from mmflow.model.graph import Node, Output
from mmflow.model.model import Model
from mmflow.model.outlook import StagedSpec
from mmflow.model.trained import trained_by_entry
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Encoder, Loss, Memory, Stage, StageScope
from mmflow.plugin.numbers import Clock
from mmflow.plugin.samples import SampleError
from mmflow.plugin.targets import Owner
from mmflow.plugin.values import Encoding, Tokens
from mmflow.spec.text.document import Document
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
    """A whole spec with the text that it was read from."""

    @property
    def document(self) -> Document: ...


def check_shapes(spec: CheckedSpec) -> ShapeReport:
    """Check every stage of a resolved spec that runs encoders."""
    report = ShapeReport()
    for name, declaration in spec.stages.items():
        scope = spec.scope(name)
        roots = scope.roots()
        if not declaration.trains:
            # Losses and parts that an evaluator names lend it a number or a score: they are not run.
            roots = tuple(owner for owner in roots if owner.section == "encoders")
        if roots:
            with _materialized(), torch.random.fork_rng(devices=[]):
                _check(report, scope, name, roots, declaration)
    report.problems = [_placed(spec, problem) for problem in dict.fromkeys(report.problems)]
    report.untraced = list(dict.fromkeys(report.untraced))
    report.shapes = list(dict.fromkeys(report.shapes))
    return report


def _check(
    report: ShapeReport, scope: StageScope, stage: str, roots: Sequence[Owner], declaration: Stage
) -> None:  # fmt: skip
    source = scope.source
    if source is None:
        return
    try:
        states = Model.learn_states(scope, roots, source, limit=LEARNED_FROM)
        model = Model.create(scope, roots, seed=0, states=states, device="meta")
        requests = model.requests()
        sampled = [request for request in requests if request.target.section == "sampler"]
        read = [request for request in requests if request not in sampled]
        # A source with static fields alone (one big graph) has no samples to read.
        batch = next(iter(scan(source, scope.views, read, batch_size=SAMPLES)), None) or Batch({}, [], 0, 0, 0)
        for request in sampled:
            dtype = getattr(torch, scope.type_of(request.target).dtype)
            batch.columns[request.key] = ColumnBatch(torch.zeros(batch.size, dtype=dtype))
    except (ComponentError, SampleError) as error:
        report.problems.append(_problem(("stages", stage), str(error), error))
        return
    except (RuntimeError, TypeError, ValueError) as error:
        report.problems.append(_problem(("stages", stage), f"cannot be built: {_first_line(error)}", error))
        return
    if declaration.trains:
        counts = ", ".join(trained_by_entry(model, declaration.patterns()))
        report.trained.append(f"{stage}: trains {counts}")
    model.device = torch.device("cpu")
    columns = model.columns(batch)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        model.root.to_empty(device="cpu")
        columns = {key: encoding.map(partial(_faked, mode)) for key, encoding in columns.items()}
        _Pass(report, model, columns, batch.ids).run()


class _Pass:
    """One pass of fake tensors through a graph; what follows a failure is left out."""

    def __init__(self, report: ShapeReport, model: Model, columns: dict[str, Encoding], ids: list[str]) -> None:
        self.report, self.model, self.columns, self.ids = report, model, columns, ids
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
                self._untraced(node, _first_line(error))
            except (ComponentError, RuntimeError, TypeError, ValueError, IndexError, KeyError, AssertionError) as error:
                if "meta tensor" in str(error) or "FakeTensor" in str(error):
                    self._untraced(node, _first_line(error))
                    continue
                self.lost.add(node.owner)
                path = tuple(filter(None, node.owner))
                message = f"{node.component.use} does not fit its inputs ({self._inputs(node)}): {_first_line(error)}"
                self.report.problems.append(_problem(path, message, error))

    def _visit(self, node: Node) -> None:
        if isinstance(node.component, Loss):
            inputs = {r.place: self.execution.fetch(r, self._fetch) for r in node.reads if r.field != "rows"}
            self.execution.call(node, inputs, ids=self.ids)
        elif not isinstance(node.component, Memory):
            encoding = self.execution.encode(node, self._fetch, self.ids, ordinal=0)
            self.values[node.owner] = encoding
            for name, value in encoding.outputs.items():
                self.report.shapes.append(f"{node.owner}: {name} {_shape(value)}")

    def _fetch(self, output: Output) -> Encoding | None:
        owner, name = output
        if isinstance(owner, str):
            return self.columns[owner]
        if owner in self.model.memories:
            return None
        found = self.values[owner]
        if name not in found.outputs:
            raise ComponentError(f"{owner} gives no {name!r}; it gives {', '.join(found.outputs)}")
        return Encoding({name: found.outputs[name]}, found.axes, found.present)

    def _untraced(self, node: Node, why: str) -> None:
        self.lost.add(node.owner)
        self.report.untraced.append(f"{node.owner} ({node.structure.use}): {why}")

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
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def _placed(spec: CheckedSpec, problem: Problem) -> Problem:
    mark, also = spec.document.root.place(problem.path, key=True)
    return replace(problem, mark=mark, also=also)


def _faked(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    return mode.from_tensor(tensor)


def _shape(value: object) -> str:
    if isinstance(value, Tokens):
        return f"{list(value.values.shape)} with mask"
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _problem(path: tuple[str, ...], message: str, error: BaseException) -> Problem:
    hint = getattr(error, "hint", "") or None
    found, expected = getattr(error, "found", "") or None, getattr(error, "expected", "") or None
    return Problem(message, path, found=found, expected=expected, hint=hint)
