"""`check --shapes`: build every stage's graph without memory and pass fake tensors through it.

Modules are built on the meta device; two real samples are read and preprocessed, and go through as fake tensors, so a
wrong dimension, a missing field or a wrong modality shows before any work. Untraceable nodes are named, not failed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeAlias

import torch

from mmflow.compat.torch import fake_on_cpu
from mmflow.data import Batch, ColumnBatch
from mmflow.data.blanks import blank_source
from mmflow.model.graph import Node
from mmflow.model.model import Model
from mmflow.model.outlook import StagedSpec
from mmflow.model.received import Outputs, form_problems, outputs_of, received, score_problems
from mmflow.model.rehearsal import Reading, TooMuch, other_data, problem_of, read_problems, said, smallest_batch
from mmflow.model.tracing import SAMPLES, UNTRACEABLE, TooLarge, Trace, Tracing, materialized, taps_of
from mmflow.model.trained import check_learned, check_trainable, nothing_depends, trained_by_entry
from mmflow.model.tried import value_problems
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Source, Stage, StageScope, View
from mmflow.plugin.targets import INIT, STAGE, Owner, Target
from mmflow.plugin.values import Encoding, TensorType
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.repeat import Repetition
from mmflow.spec.text.problems import Problem

ReadColumns: TypeAlias = "dict[Target, Mapping[str, View] | None]"
"""Fields and views that were read, each view with all views of its stage, one of which it may be made of."""

LEARNED_FROM = 64
"""Samples that tokenizers and the like learn from here: sizes of vocabularies are not what is checked."""


NO_ROW_ALONE = (
    "leave a last batch of one row out (`sampler: {use: shuffle, drop_last: true}`), or write another `batch_size` or "
    "`micro_batch_size`"
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
    memories: list[str] = field(default_factory=list)
    """By stage that trains, how large its memories are."""
    outputs: dict[str, Outputs] = field(default_factory=dict)
    """By stage without a mistake, the outputs of encoders as rows without values."""

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)


class CheckedSpec(StagedSpec, Protocol):
    """A whole spec with the places where its entries are written."""

    @property
    def repeats(self) -> Mapping[str, Repetition]: ...

    def place(self, stage: str, owner: Owner) -> Entry | None: ...


def check_shapes(
    spec: CheckedSpec, stages: Collection[str] | None = None, running: StageScope | None = None
) -> ShapeReport:
    """Check every stage of a resolved spec, or those of `stages`. Raises nothing: whatever fails is in the report.

    `running` is the scope of a stage that is about to run, with all that other stages have made for it; before, values
    of that kind are blank.
    """
    return ShapeCheck().of(spec, stages, running)


class ShapeCheck:
    """One check, of one spec or of several that share much: what they have in common is read and traced once.

    However many they are, they are built, traced and read within the bounds of one check.
    """

    def __init__(self) -> None:
        self._tracing, self._reading, self.report = Tracing(), Reading(), ShapeReport()
        self._traced: list[Trace] = []
        self._read_already: list[tuple[Source, ReadColumns]] = []

    def of(
        self, spec: CheckedSpec, stages: Collection[str] | None = None, running: StageScope | None = None
    ) -> ShapeReport:
        """As `check_shapes`."""
        self.report = report = ShapeReport()
        for name, declaration in spec.stages.items():
            if stages is not None and name not in stages:
                continue
            scope = spec.scope(name) if running is None else running
            problems = len(report.problems)
            with materialized(), torch.random.fork_rng(devices=[]):
                source = blank_source(scope)
                report.outputs[name] = lambda target, outputs: None
                if source is not None:
                    self._stage(spec, name, declaration, scope, source)
                if len(report.problems) == problems:
                    found = read_problems(self._reading, spec, scope, name)
                    report.problems += [placed(spec, name, problem) for problem in found]
            if len(report.problems) > problems:
                del report.outputs[name]
        report.problems = list(dict.fromkeys(report.problems))
        report.untraced = list(dict.fromkeys(report.untraced))
        report.shapes = list(dict.fromkeys(report.shapes))
        return report

    def _stage(self, spec: CheckedSpec, stage: str, declaration: Stage, scope: StageScope, source: Source) -> None:
        report = self.report
        try:
            traces = {
                name: self._trace(spec, scope, name, roots, source, trains=declaration.trains)
                for name, roots in _roots(declaration, scope).items()
            }
        except (TooLarge, TooMuch) as error:
            report.untraced.append(f"{stage}: {error}")
            return
        except Exception as error:  # components, sources and files may raise anything
            if self._reading.tells(error):
                report.problems.append(placed(spec, stage, said(error, stage, declaration.use)))
            return
        if declaration.trains and None in traces:
            counts = ", ".join(trained_by_entry(traces[None].model, declaration.patterns()))
            report.trained.append(f"{stage}: trains {counts}")
        report.outputs[stage] = partial(outputs_of, traces)
        problems: list[Problem] = []
        if declaration.trains and None in traces:
            try:
                check_trainable(traces[None].model, declaration.patterns())
            except ComponentError as error:
                problems.append(problem_of(("stages", stage), str(error), error))
        with self._tracing.running():
            for trace in traces.values():
                trace.begin_memories()
                trace.run()
                problems += trace.problems
            if not problems and not declaration.trains:
                found = received(scope, traces)
                problems += form_problems(declaration, scope, found)
                # Widths that a loss has refused are the same mistake.
                if not problems and not report.problems:
                    problems += score_problems(declaration, scope, found, report.untraced, UNTRACEABLE)
        if declaration.trains and not problems:
            problems += [problem for trace in traces.values() for problem in value_problems(trace)]
            problems += [problem_of(("stages", stage), str(e), e) for e in _nothing_moves(traces.get(None))]
        if declaration.trains and not problems:
            problems += self._alone(spec, declaration, scope, source)
        report.problems += [placed(spec, stage, problem) for problem in problems]
        for trace in traces.values():
            report.untraced += trace.untraced
            report.shapes += trace.shapes
            report.memories += [f"{stage}: {line}" for line in trace.memories]

    def _alone(self, spec: CheckedSpec, declaration: Stage, scope: StageScope, source: Source) -> Iterator[Problem]:
        """What cannot take a micro-batch of one row (batch norm), where the stage will have one."""
        if smallest_batch(scope, source) != 1:
            return
        for name, roots in _roots(declaration, scope).items():
            trace = self._trace(spec, scope, name, roots, source, trains=True, rows=1)
            with self._tracing.running():
                trace.run()
            for problem in trace.problems:
                message = f"the stage has a micro-batch of one row: {problem.message}"
                yield replace(problem, message=message, hint=NO_ROW_ALONE)

    def _trace(
        self, spec: CheckedSpec, reader: StageScope, stage: str | None, roots: Sequence[Owner], source: Source, *,
        trains: bool, rows: int = SAMPLES,
    ) -> Trace:  # fmt: skip
        """The graph of `roots` with the rows of a stage, ready to run; nodes that earlier ones have run alike are not
        run again. `reader` is the stage, `stage` that whose model has the entries, where it is another."""
        scope = reader if stage is None else reader.untrained if stage == INIT else spec.scope(stage)
        model = Model.planned(scope, roots, seed=0)
        if not trains and stage != INIT:
            check_learned(spec, scope, roots, reader.model if stage is None else stage)
        asked = _asked(reader, stage)
        if not trains:
            # It has no losses, which would read the same rows as its encoders.
            whole = [trace for trace in self._traced if len(trace.ids) == SAMPLES]
            known = self._known(model, whole, asked)
            if len(known) == len(model.graph.working) and self._has_read(reader, scope, model, source):
                return Trace(self._tracing, model, {}, [], known, asked)
        learned = source if stage is None else scope.source
        states = Model.learn_states(scope, roots, learned, limit=LEARNED_FROM)
        model = Model.planned(scope, roots, seed=0, states=states)
        with self._tracing.building(), torch.device("meta"):
            model.modules.build()
            model.constraints.project()
        model.read_from(source)
        batch = self._read(spec, reader, scope, model, source, rows)
        real = model.columns(batch)
        with self._tracing:
            columns = {key: found.map(self._tracing.from_tensor) for key, found in real.items()}
            fake_on_cpu(self._tracing, model.root)
        alike = [trace for trace in self._traced if trace.has_rows_like(columns, batch.size)]
        trace = Trace(self._tracing, model, columns, batch.ids, self._known(model, alike, asked), asked)
        trace.real = real
        self._traced.append(trace)
        return trace

    def _read(
        self, spec: CheckedSpec, reader: StageScope, scope: StageScope, model: Model, source: Source, rows: int
    ) -> Batch:
        """A few rows, and some from all over every entry of data that the stage's encoders read."""
        requests = model.requests()
        sampled = [request for request in requests if request.target.section == "sampler"]
        read = [request for request in requests if request not in sampled]
        batch = self._reading.first_rows(source, scope.views, read, rows)
        for request in sampled:
            dtype = getattr(torch, scope.type_of(request.target).dtype)
            axis = scope.type_of(request.target).axes[0]
            batch.columns[request.key] = ColumnBatch(torch.zeros(batch.size, dtype=dtype), (axis,))
        for data in other_data(reader):
            other = blank_source(reader, spec.data[data])
            assert other is not None
            self._reading.rows_from_all_over(other, scope.views, read, data)
        self._reading.rows_from_all_over(source, scope.views, read)
        self._read_already.append((source, _columns(scope, model)))
        return batch

    def _has_read(self, reader: StageScope, scope: StageScope, model: Model, source: Source) -> bool:
        """Whether an earlier stage has read the very columns of the same entry of data."""
        wanted = _columns(scope, model).items()
        return not any(other_data(reader)) and any(
            source == known and all(target in read and read[target] == view for target, view in wanted)
            for known, read in self._read_already
        )

    def _known(self, model: Model, traces: Sequence[Trace], asked: Sequence[Target]) -> dict[Owner, Encoding]:
        """The encodings of nodes that were traced in an earlier stage, with all that they read and what is `asked`."""
        found: dict[Owner, Encoding] = {}
        for node in model.graph.working:
            own = _application(model, node)
            inner = [owner for read in node.reads for owner, _ in read.outputs if isinstance(owner, Owner)]
            if not all(owner in found for owner in inner):
                continue
            taps = taps_of(node, asked)
            for trace in traces:
                if node.owner not in trace.values or not trace.values[node.owner].outputs.keys() >= set(taps):
                    continue
                if _application(trace.model, trace.model.graph.nodes[node.owner]) == own:
                    found[node.owner] = trace.values[node.owner]
                    break
        return found


def _nothing_moves(trace: Trace | None) -> Iterator[ComponentError]:
    """The error of a training none of whose losses depends on a parameter that trains, where that is known."""
    losses = [node.owner for node in trace.graph.working if node.role == "loss"] if trace is not None else []
    if trace is not None and trace.whole and losses and not any(trace.learning.get(loss, True) for loss in losses):
        yield nothing_depends()


def _roots(declaration: Stage, scope: StageScope) -> dict[str | None, tuple[Owner, ...]]:
    """The entries to be traced, by the stage whose model has them; None: the stage's own."""
    own = scope.roots()
    if declaration.trains:
        return {None: own} if own else {}
    # Losses and parts that an evaluator names lend it a number or a score: they are not run.
    own = tuple(owner for owner in own if owner.section == "encoders")
    roots: dict[str | None, tuple[Owner, ...]] = {None: own} if own else {}
    for target in scope.targets(STAGE).values():
        if target.section == "encoders" and target.stage is not None:
            roots[target.stage] = tuple(dict.fromkeys((*roots.get(target.stage, ()), target.owner)))
    return roots


def _asked(reader: StageScope, stage: str | None) -> list[Target]:
    """The encoders of one model that a stage's own references lead to."""
    return [t for t in reader.targets(STAGE).values() if t.section == "encoders" and t.stage == stage]


def _columns(scope: StageScope, model: Model) -> ReadColumns:
    """The columns that a model reads, with the views behind them."""
    views = dict(scope.views)
    return {request.target: views if request.target.section == "views" else None for request in model.requests()}


def _application(model: Model, node: Node) -> tuple[Node, tuple[str, ...], tuple[TensorType, ...]]:
    """All that the shapes of a node's outputs depend on beside those of the nodes that it reads."""
    leaves = [model.graph.leaves[key] for read in node.reads for key, _ in read.outputs if isinstance(key, str)]
    types = tuple(model.scope.type_of(leaf.target) for leaf in leaves)
    # Whether it trains changes no shape.
    return replace(node, trains=True, component=node.structure), model.graph.taps.get(node.owner, ()), types


def placed(spec: CheckedSpec, stage: str, problem: Problem) -> Problem:
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
