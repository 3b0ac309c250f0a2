"""Running one node: its arguments bound by name, group axes folded into rows, presence carried along."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import torch
from pydantic import BaseModel
from torch import Tensor

from mmflow.model.draws import Inputs, by_members, generators_left_alone, one_by_one
from mmflow.model.gathering import Fetch, Ids, gathered, gathered_ids
from mmflow.model.graph import Graph, Node, Read, Site
from mmflow.model.leading import over_dims
from mmflow.model.modules import Modules
from mmflow.model.results import check_loss, check_number
from mmflow.model.rows import batch_inputs, fold, of_rows, pick, row_axis, unfold
from mmflow.plugin.addresses import address
from mmflow.plugin.binding import Binding, binding
from mmflow.plugin.component import Component, ComponentError, Shared
from mmflow.plugin.emission import emitting
from mmflow.plugin.failures import inside
from mmflow.plugin.kinds import Encoder, Loss, StageScope
from mmflow.plugin.numbers import Clock, Constant, Learned, Value
from mmflow.plugin.targets import Owner, Place
from mmflow.plugin.values import NUMBER, SAMPLE, Argument, Encoding, Tokens, in_all, of_samples, same_rows


class Execution:
    """Runs nodes of a graph with the modules of a model. Stateless but for the clock and the seed."""

    def __init__(self, graph: Graph, modules: Modules, scope: StageScope, seed: int) -> None:
        self.graph, self.modules, self.scope, self.seed = graph, modules, scope, seed
        self.clock = Clock(0, 1)
        self.update_name = ""
        """The update of the step that runs, where a step has several: its draws are its own."""
        self._draws: set[Owner] = set()
        """Nodes that were seen to draw from torch's own generators in evaluation."""
        self._emits: dict[Owner, tuple[str, ...]] = {}
        self._bound: dict[Owner, tuple[Callable[..., Argument], Binding]] = {}

    # --- reading ---------------------------------------------------------------------------------------

    def fetch(self, read: Read, fetch: Fetch) -> Encoding | None:
        """The encoding that a reference reads: group index and `.detach` applied; None if not ready."""
        merged: dict[str, Argument] = {}
        axes: tuple[str, ...] = (SAMPLE,)
        present: Tensor | None = None
        for output in read.outputs:
            found = fetch(output)
            if found is None:
                return None
            producer = self.graph.producer(output)
            label = {"head": "pooled", "tokens": "tokens"}.get(producer.role if producer else "", output[1])
            merged[label] = found.outputs[output[1]]
            axes, there = found.axes, found.present
            if producer is not None and output[1] in self.emits(producer):
                # One value a row, also where the encoder's outputs have axes of their own.
                axes, there = of_rows(axes, there, merged[label].ndim)
            present = in_all(present, there)
        encoding = Encoding(merged, axes, present)
        if read.target.index is not None:
            encoding = pick(encoding, read.target)
        if read.target.detach:
            encoding = encoding.map(torch.Tensor.detach)
        return encoding

    def emits(self, node: Node) -> tuple[str, ...]:
        """Names that a node emits."""
        if node.owner not in self._emits:
            named = node.role in ("encoder", "head")
            self._emits[node.owner] = self.scope.emits(node.owner) if named else ()
        return self._emits[node.owner]

    def argument(self, read: Read, encoding: Encoding | None) -> Argument:
        """The form in which a component receives a reference: an `Encoding`, `Tokens`, a tensor or a list."""
        if encoding is None:
            return None
        only = next(iter(encoding.outputs.values()))
        if not read.whole:
            return only.reshape(()) if encoding.axes == (NUMBER,) else only
        if read.target.section in ("memories", "stages"):
            return Encoding({"pooled": only}, encoding.axes, encoding.present)
        return encoding

    def indices(self, node: Node, fetch: Fetch) -> list[Encoding]:
        """The indices by which a node gathers its rows, one for each input."""
        found = [self.fetch(read, fetch) for read in node.gathers]
        return [index for index in found if index is not None]

    # --- calling ---------------------------------------------------------------------------------------

    def encode(
        self, node: Node, fetch: Fetch, ids: Ids, *, ordinal: int | None = None, taps: Sequence[str] = (),
        by_place: Mapping[Place, Fetch] | None = None,
    ) -> Encoding:  # fmt: skip
        """Run an encoder, a head or a token projection on the rows that `fetch` gives, whose ids are `ids`, by axis.

        `ordinal` is the number of the micro-batch in training (-1: the whole batch); None in evaluation, where rows
        that draw do so at their ids, so that the size of the batch changes nothing. `taps`: asked for beside.
        `by_place` gives the inputs of a node that gathers its rows; by default these are gathered here.
        """
        if node.role == "value":
            return self._batch_value(node, fetch)
        if by_place is None and node.gathers:
            indices = self.indices(node, fetch)
            by_place = gathered(indices, fetch)
            ids = {**ids, node.rows: gathered_ids(node, indices, ids, self.graph, self.scope)}
        sources = by_place or {}
        encodings = [self.fetch(read, sources.get(read.place, fetch)) for read in node.given]
        structure = node.structure
        assert isinstance(structure, Encoder)
        axes, folded, groups = fold(encodings, structure.axes)
        alike = same_rows if structure.paired else str.__eq__
        present = structure.presence([e for e in encodings if e is not None and alike(e.axes[0], axes[0])])
        inputs = {read.place: encoding for read, encoding in zip(node.given, folded, strict=True)}
        asked = (*self.graph.taps.get(node.owner, ()), *taps)
        rows = ids.get(axes[0], ())
        if groups:
            rows = [f"{id}.{member}" for id in rows for member in range(prod(groups))]

        def one_pass(inputs: Inputs, rows: Sequence[str], *member: int) -> Argument:
            def run(inputs: Inputs, row: int | None = None) -> Argument:
                if node.role == "tokens":
                    (tokens,) = (self.argument(read, inputs[read.place]) for read in node.given)
                    function, _ = self._binding(node)
                    return Tokens(function(tokens.values), tokens.mask)
                at = () if node.static or (row is None and ordinal is not None) else tuple(rows[row or 0 :][:1])
                found = self._call(node, inputs, {"at": at}, named={"taps": asked} if asked else {})
                return found if isinstance(found, Mapping) else {"pooled": found}

            alone = node.scope == "row" and len(rows) > 0
            if alone and self._asks_for_generator(node):
                return one_by_one(run, inputs, axes[0], len(rows))
            if ordinal is not None:
                torch.manual_seed(self._address("model", node, ordinal, *member))
                return run(inputs)
            return self._evaluated(node, run, inputs, axes[0], rows if alone else ())

        if groups and self._in_passes(node):
            result = by_members(one_pass, inputs, rows, axes[0], prod(groups))
        else:
            result = one_pass(inputs, rows)
        outputs = result if isinstance(result, Mapping) else {"pooled": result}
        unfolded = {name: unfold(value, groups) for name, value in outputs.items()}
        made = self._made_axes(node)
        if node.apart and of_samples(axes[0]):
            return Encoding(outputs, made)
        return Encoding(unfolded, (*axes, *made), present)

    def _batch_value(self, node: Node, fetch: Fetch) -> Encoding:
        """A number of the whole batch; absent where no row is present in all of its inputs."""
        kept, _, count = batch_inputs({read.place: self.fetch(read, fetch) for read in node.given})
        if not count:
            return Encoding({"value": torch.zeros(1)}, (NUMBER,), torch.zeros(1, dtype=torch.bool))
        found = self._call(node, kept, {})
        check_number(node, found)
        return Encoding({"value": found.reshape(1)}, (NUMBER,))

    def _in_passes(self, node: Node) -> bool:
        """Whether the members of groups go through one after another; projections do as their encoder says."""
        made = self.scope.component(node.owner.whole)
        return isinstance(made, Encoder) and made.passes == "separate"

    def _evaluated(
        self, node: Node, run: Callable[..., Argument], inputs: Inputs, row_axis: str, rows: Sequence[str]
    ) -> Argument:
        """Run a node in evaluation: row by row, each at its address, where it draws from torch's own generators."""
        with generators_left_alone() as moved:
            if node.owner not in self._draws:
                torch.manual_seed(self._address("model", node, *rows[:1]))
                moved()
                result = run(inputs)
                if not rows or not moved():
                    return result
                self._draws.add(node.owner)

            def alone(inputs: Inputs, row: int) -> Argument:
                torch.manual_seed(self._address("model", node, rows[row]))
                return run(inputs, row)

            return one_by_one(alone, inputs, row_axis, len(rows))

    def _address(self, what: str, node: Node, *further: int | str) -> int:
        """The address of a node's draws: the seed, the step, its update where there are several, and the node."""
        update = (self.update_name,) if self.update_name else ()
        return address(self.seed, what, self.clock.step, *update, str(node.owner), *further)

    def call(self, node: Node, inputs: Inputs, *, ids: Sequence[str]) -> Argument:
        """The value of a loss on its inputs; `ids` are those of their rows.

        A row loss that asks for a generator is called row by row, so that each row draws at its own address.
        """
        if node.scope == "row" and len(ids) and self._asks_for_generator(node):
            axis = row_axis(list(inputs.values()))
            return one_by_one(lambda own, row: self._loss(node, own, ids[row : row + 1]), inputs, axis, len(ids))
        return self._loss(node, inputs, ids)

    def _asks_for_generator(self, node: Node) -> bool:
        return node.role != "tokens" and "generator" in self._binding(node)[1].requests

    def _loss(self, node: Node, inputs: Inputs, ids: Sequence[str]) -> Argument:
        present: Tensor | None = None
        axis = row_axis(list(inputs.values()))
        for place, encoding in inputs.items():
            if place[0] == "of" and encoding is not None and same_rows(encoding.axes[0], axis):
                present = in_all(present, encoding.present)
        at = tuple(ids) if node.scope == "row" else ()
        requested = {"ids": list(ids), "present": present, "at": at[:1]}
        loss = node.component
        if isinstance(loss, Loss) and loss.dims:
            found = over_dims(loss, inputs, lambda cut: self._call(node, cut, requested))
        else:
            found = self._call(node, inputs, requested)
        check_loss(node, found)
        return found

    def update(
        self, node: Node, state: Mapping[str, Tensor], columns: Mapping[str, Tensor], ids: Sequence[str], inputs: Inputs
    ) -> Argument:
        """The next state of a memory; `inputs` are its references beside `of`, of the same rows."""
        return self._call(node, inputs, {"ids": list(ids)}, leading=(state, columns))

    def _call(
        self, node: Node, inputs: Inputs, requested: Mapping[str, Argument], *, leading: Sequence[Argument] = (),
        named: Mapping[str, Argument] | None = None,
    ) -> Argument:  # fmt: skip
        """Call a node's module, or its component's method, with the arguments that it asks for."""
        of: list[Argument] = []
        given: dict[str | int, Argument] = {}
        for read in node.given:
            if read.place not in inputs:
                continue
            value = self.argument(read, inputs[read.place])
            name, *rest = read.place
            if rest and name != "of" and value is None:
                # Of several, those that are not ready are absent; a single one is None.
                given.setdefault(name, [] if isinstance(rest[0], int) else {})
            elif name == "of":
                of.append(value)
            elif not rest:
                given[name] = value
            elif isinstance(rest[0], int):
                given.setdefault(name, []).append(value)
            else:
                given.setdefault(name, {})[rest[0]] = value

        for place, target in node.parameters:
            name, *rest = place
            weights = self.modules.weights_of(target)
            if rest and isinstance(rest[0], int):
                given.setdefault(name, []).append(weights)
            elif rest:
                given.setdefault(name, {})[rest[0]] = weights
            else:
                given[name] = weights

        def field(name: str) -> Argument:
            return given[name] if name in given else self.built(node.structure, node.site, name, node.module)

        def request(name: str) -> Argument:
            if name == "generator":
                at = requested.get("at", ())
                return torch.Generator().manual_seed(self._address("draw", node, *at))
            return {"clock": self.clock, "step": self.clock.step, **requested}[name]

        function, bound = self._binding(node)
        with inside(node.owner, node.structure), emitting(str(node.owner), names := self.emits(node)) as emitted:
            found = bound.call(function, of, field, request, leading=leading, named=named)
            if not names:
                return found
            rows = next((len(e) for p, e in inputs.items() if p[0] == "of" and e is not None), 0)
            return emitted.beside(found if isinstance(found, Mapping) else {"pooled": found}, rows)

    def _binding(self, node: Node) -> tuple[Callable[..., Argument], Binding]:
        """The function that runs a node, and its binding: made once, as reading a signature is slow beside a step."""
        if node.owner not in self._bound:
            module = self.modules.at(node.module)
            structure = node.structure
            function = module.forward if module is not None else getattr(structure, structure.method)
            count = sum(read.field == "of" for read in node.reads)
            bound = binding(structure, function, count=count)
            if node.role in ("encoder", "loss") and (misfit := bound.misfit(count)) is not None:
                raise ComponentError(
                    f"{node.owner}: {structure.kind} {structure.use} takes {misfit}", found=f"{count} in `of`"
                )
            self._bound[node.owner] = (module if module is not None else function), bound
        return self._bound[node.owner]

    def _made_axes(self, node: Node) -> tuple[str, ...]:
        """Axes of the result that the encoder makes: group axes that it handles itself, or all where its rows are its
        own."""
        structure = node.structure
        if not isinstance(structure, Encoder):
            return ()
        if node.apart and not node.static and node.role == "encoder" and structure.scope() == "batch":
            return next(iter(self.scope.outputs(node.owner).values())).axes
        if not structure.axes:
            return ()
        declared = structure.outputs(*(self.scope.type_of(read.target) for read in node.reads if read.field == "of"))
        first = next(iter(declared.values()))
        return tuple(axis for axis in first.axes[1:] if axis in structure.axes)

    # --- fields ----------------------------------------------------------------------------------------

    def built(self, component: BaseModel, site: Site, name: str, module: str | None = None) -> Argument:
        """A field as a method receives it: numbers resolved, sub-components with their modules in place.

        `site` is where the component is written, `module` the path of its modules where that is another.
        """
        return self._built(getattr(component, name), site.at(name), f"{site.path if module is None else module}.{name}")

    def _built(self, value: Argument, site: Site, path: str) -> Argument:
        if isinstance(value, Shared):
            target = self.scope.targets(site.owner).get(site.place)
            if target is None:
                raise ComponentError(f"{site.path}: `{value}` leads to no component of this stage")
            owner, place = target.owner, target.field
            made: Argument = self.scope.component(owner)
            for field in place:
                made = getattr(made, field)
            there = Site(owner, place)
            return self._built(made, there, there.path)
        if isinstance(value, Value):
            return self.number(value, path)
        if isinstance(value, Component):
            module = self.modules.at(path)
            return module if module is not None else value
        if isinstance(value, Mapping) and any(isinstance(item, Component | Shared) for item in value.values()):
            return {name: self._built(item, site.at(name), f"{path}.{name}") for name, item in value.items()}
        if isinstance(value, tuple) and any(isinstance(item, Component | Shared) for item in value):
            return tuple(self._built(item, site.at(i), f"{path}.{i}") for i, item in enumerate(value))
        return value

    def number(self, value: Value, path: str) -> Argument:
        """A moving number now: a float, or a 0-d tensor with gradient where it is learned."""
        if isinstance(value, Constant):
            return value.value
        if isinstance(value, Learned):
            module = self.modules.at(path)
            assert module is not None, f"no learned value at {path}"
            return module()
        return value.at(self.clock)
