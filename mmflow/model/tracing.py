"""Fake tensors through a graph: its shapes without its memory, within a bounded number of operations and modules."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.nn.modules.module import register_module_forward_pre_hook, register_module_module_registration_hook

from mmflow.kernels.dispatch import VARIABLE
from mmflow.model.gathering import Fetch
from mmflow.model.graph import Graph, Node, Output, column_of
from mmflow.model.model import Model
from mmflow.model.received import shown
from mmflow.model.rehearsal import problem_of, said_by
from mmflow.model.rows import folded
from mmflow.plugin.component import ComponentError
from mmflow.plugin.failures import inside
from mmflow.plugin.kinds import Encoder, Loss, Memory
from mmflow.plugin.numbers import Clock
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import SAMPLE, Encoding, Tokens, of_samples
from mmflow.spec.text.problems import Problem

SAMPLES: Final = 2
"""Rows of the fake batch."""
MOST_OPERATIONS: Final = 20_000
"""Operations that one check traces: about those of 150 blocks of a transformer."""
MOST_MODULES: Final = 4_000
"""Modules that one check builds: about those of 300 blocks of a transformer."""


class TooLong(RuntimeError):
    """More operations than one check traces."""


class TooLarge(ComponentError):
    """More modules than one check builds."""


UNTRACEABLE = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
    NotImplementedError,
    TooLong,
)


class Tracing(FakeTensorMode):
    """The fake tensors of one check, all its stages together."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.operations = 0
        self.modules = 0

    def __torch_dispatch__(self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return super().__torch_dispatch__(func, types, args, kwargs or {})

    def go_on(self) -> None:
        """Raises `TooLong` where enough was traced."""
        if self.operations > MOST_OPERATIONS:
            raise TooLong(f"the models take more than {MOST_OPERATIONS:,} operations, and a check traces no more")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Trace what runs inside. A module that is called when enough was traced raises `TooLong`."""
        # Out of an operation itself no exception may be raised: some end the process.
        handle = register_module_forward_pre_hook(lambda module, inputs: self.go_on())
        try:
            with self:
                yield
        finally:
            handle.remove()

    @contextmanager
    def building(self) -> Iterator[None]:
        """Count the modules that are built inside; raises `TooLarge`."""

        def count(module: nn.Module, name: str, submodule: nn.Module | None) -> None:
            self.modules += 1
            if self.modules > MOST_MODULES:
                raise TooLarge(f"the models have more than {MOST_MODULES:,} modules, and a check builds no more")

        handle = register_module_module_registration_hook(count)
        try:
            yield
        finally:
            handle.remove()


@contextmanager
def materialized() -> Iterator[None]:
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


class Trace:
    """One pass of fake tensors through a graph; nodes that follow a failure are left out."""

    def __init__(
        self, tracing: Tracing, model: Model, columns: Mapping[str, Encoding], ids: Sequence[str],
        known: Mapping[Owner, Encoding], asked: Sequence[Target] = (),
    ) -> None:  # fmt: skip
        """`known` are encodings of nodes that need not run, `asked` references from outside the graph, to taps also."""
        self.tracing, self.model, self.columns, self.ids, self.asked = tracing, model, columns, ids, asked
        self.problems: list[Problem] = []
        self.untraced: list[str] = []
        self.shapes: list[str] = []
        self.memories: list[str] = []
        self.execution = model.execution
        self.execution.clock = Clock(0, 1)
        self.values: dict[Owner, Encoding] = {**known}
        self.real: Mapping[str, Encoding] = {}
        """The columns with the values that were read."""
        self.whole = not known
        """Whether every node is run here; the gradients of those that are not are not known."""
        self.learning: dict[Owner, bool] = {}
        """The losses that were traced, with whether a parameter that trains is behind them."""
        self.lost: set[Owner] = set()

    def has_rows_like(self, columns: Mapping[str, Encoding], rows: int) -> bool:
        """Whether the columns that it shares with `columns`, of so many rows, have the same shapes."""
        shared = self.columns.keys() & columns.keys()
        return len(self.ids) == rows and all(_shapes(self.columns[key]) == _shapes(columns[key]) for key in shared)

    def begin_memories(self) -> None:
        """The first state of each memory, for its size."""
        for node in self.model.graph.nodes.values():
            if not isinstance(node.component, Memory):
                continue
            try:
                with inside(node.owner, node.component):
                    state = self.model.first_state(node, node.component)
            except ComponentError as error:
                self._refused(node, error)
            except Exception as error:  # a memory of a plugin may raise anything
                self._untraced(node, said_by(error))
            else:
                size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
                self.memories.append(f"{node.owner} holds {size / 1e6:,.1f} MB")

    def run(self) -> None:
        for node in self.model.graph.working:
            if node.owner in self.values:
                continue
            if any(owner in self.lost for read in node.reads for owner, _ in read.outputs):
                self.lost.add(node.owner)
                continue
            component = node.structure
            unknown = [
                o for read in node.reads for o, _ in read.outputs if isinstance(o, str) and o not in self.columns
            ]
            if unknown:
                self._untraced(node, f"no stage declares the type of {unknown[0]}")
                continue
            if isinstance(component, Encoder) and component.untraceable:
                self._untraced(node, "it says that it cannot be traced")
                continue
            try:
                self.tracing.go_on()
                self._visit(node)
            except UNTRACEABLE as error:
                self._untraced(node, said_by(error))
            except (ComponentError, RuntimeError, TypeError, ValueError, LookupError, AttributeError,
                    AssertionError) as error:  # fmt: skip
                if "meta tensor" in str(error) or "FakeTensor" in str(error):
                    self._untraced(node, said_by(error))
                    continue
                self._refused(node, error)
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
        if isinstance(node.component, Loss | Memory):
            self._check_rows(node)
        if isinstance(node.component, Loss):
            inputs = {r.place: self.execution.fetch(r, self._fetch) for r in node.reads if r.field != "rows"}
            found = folded(inputs, type(node.component).axes, self.ids) if node.scope == "row" else (inputs, self.ids)
            # What cannot be traced learns where one of its inputs does.
            self.learning[node.owner] = self._learns(node, inputs.values())
            value = self.execution.call(node, found[0], ids=found[1])
            parts = value if isinstance(value, tuple) else (value,)
            self.learning[node.owner] = any(part.requires_grad for part in parts if isinstance(part, Tensor))
            if isinstance(value, Tensor) and not value.ndim and self._weighs(node):
                raise ComponentError("`rows` weights need a loss with a value for each row, and this has one for all")
        elif not isinstance(node.component, Memory):
            taps = taps_of(node, self.asked)
            by_place = self._gathered(node) if node.gathers else None
            encoding = self.execution.encode(node, self._fetch, self._ids(), ordinal=0, taps=taps, by_place=by_place)
            self.values[node.owner] = encoding
            for name, value in encoding.outputs.items():
                self.shapes.append(f"{node.owner}: {name} {shown(value)}")

    def _learns(self, node: Node, inputs: Iterable[Encoding | None]) -> bool:
        """Whether an input of a loss, or a number of its own, depends on a parameter that trains."""
        values = [value for one in inputs if one is not None for value in one.outputs.values()]
        tensors = [value.values if isinstance(value, Tokens) else value for value in values]
        own = any(path.startswith(f"{node.owner}.") for path, _ in self.model.modules.named_parameters())
        return own or any(isinstance(tensor, Tensor) and tensor.requires_grad for tensor in tensors)

    def _ids(self) -> dict[str, Sequence[str]]:
        """The ids of the fake rows, which all streams share."""
        axes = {column.axes[0] for column in self.columns.values() if of_samples(column.axes[0])}
        return dict.fromkeys((SAMPLE, *axes), self.ids)

    def _check_rows(self, node: Node) -> None:
        for read in node.reads:
            found = self.execution.fetch(read, self._fetch) if read.field == "rows" else None
            value = next(iter(found.outputs.values())) if found is not None else None
            if found is not None and not (isinstance(value, Tensor) and value.ndim == len(found.axes)):
                raise ComponentError(f"`rows` takes one number a row, and {read.target} has {shown(value)}")

    def _weighs(self, node: Node) -> bool:
        """Whether `rows` leads to weights, and not to a mask that chooses rows."""
        found = [self.execution.fetch(read, self._fetch) for read in node.reads if read.field == "rows"]
        return any(one is not None and next(iter(one.outputs.values())).dtype != torch.bool for one in found)

    def _gathered(self, node: Node) -> dict[Place, Fetch]:
        """For each input of a node that gathers its rows, as many rows as its index has; fake numbers name none."""

        def source(index: Encoding) -> Fetch:
            def take(output: Output) -> Encoding | None:
                found = self._fetch(output)
                if found is None:
                    return None
                rows = found.rows(torch.zeros(len(index), dtype=torch.int64))
                return Encoding(rows.outputs, (index.axes[0], *rows.axes[1:]), rows.present)

            return take

        indices = [self.execution.fetch(read, self._fetch) for read in node.gathers]
        return {("of", place): source(index) for place, index in enumerate(indices) if index is not None}

    def _fetch(self, output: Output) -> Encoding | None:
        owner, name = output
        if isinstance(owner, str):
            return self.columns[owner]
        if owner.section == "memories":
            return self._remembered(owner, name)
        found = self.values[owner]
        if name not in found.outputs:
            raise ComponentError(f"{owner} gives no {name!r}; it gives {', '.join(found.outputs)}")
        return Encoding({name: found.outputs[name]}, found.axes, found.present)

    def _remembered(self, owner: Owner, name: str) -> Encoding | None:
        """A memory that holds two rows, or as many as it says; None where the size of a row is not known."""
        memory, (column, _) = self.model.graph.nodes[owner].component, column_of(name)
        assert isinstance(memory, Memory)
        declared = self.model.scope.type_of(Target("memories", owner.name, output=column))
        if None in declared.size:
            return None
        shape = (memory.entries() or SAMPLES, *(size for size in declared.size if size is not None))
        return Encoding({name: torch.zeros(shape, dtype=getattr(torch, declared.dtype))}, (str(owner),))

    def _refused(self, node: Node, error: Exception) -> None:
        self.lost.add(node.owner)
        message = f"{node.component.use} does not fit its inputs ({self._inputs(node)}): {said_by(error)}"
        self.problems.append(problem_of(tuple(filter(None, node.owner)), message, error))

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


def _shapes(encoding: Encoding) -> dict[str, str]:
    return {name: shown(value) for name, value in encoding.outputs.items()}


def taps_of(node: Node, asked: Sequence[Target]) -> list[str]:
    """Outputs that an encoder gives only when asked, and that references from outside its graph name."""
    known = node.structure.taps() if isinstance(node.structure, Encoder) and node.role == "encoder" else ()
    outputs = [target.output for target in asked if target.owner == node.owner]
    return [output for output in outputs if output is not None and output in known]
