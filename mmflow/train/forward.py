"""One forward over a global batch, and the gradients of its losses: row nodes in micro-batches, batch nodes once.

A forward runs in waves (see `mmflow.model.graph`), wave by wave: row nodes run in micro-batches, without gradient where
there are several; encodings that a batch node or a later wave reads are kept whole, as leaves cut from the encoders'
graph; batch nodes run once on these leaves. Backward, in reverse: batch nodes give the leaves their gradients, then the
row nodes run again, micro-batch by micro-batch, and pass them on. With one micro-batch nothing is run twice. The scheme
generalizes gradient caching (Gao et al., 2021).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mmflow.data import Batch
from mmflow.model.gathering import Fetch, Ids
from mmflow.model.graph import Graph, Node, Output
from mmflow.model.model import Model
from mmflow.model.rows import batch_inputs, row_axis
from mmflow.plugin.kinds import Memory, Scope
from mmflow.plugin.targets import Owner
from mmflow.plugin.values import Encoding, Tokens
from mmflow.train.cuts import cut, join, remembered, running_statistics
from mmflow.train.held import Held, Leaves
from mmflow.train.losses import (
    ROWS,
    WEIGHT,
    RowSum,
    StepResult,
    batch_loss,
    inputs_of,
    picked,
    positive,
    row_loss,
    row_weights,
)

_Place = tuple[int, str]
"""A wave and the axis of some of its row nodes."""


class Run:
    """The state of one forward, and the gradients of its losses."""

    def __init__(
        self, model: Model, graph: Graph, batch: Batch, *, micro_batch_size: int | None, active: Collection[Owner],
        autocast: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        self.model, self.graph, self.execution = model, graph, model.execution
        self.active, self.autocast = active, autocast
        self.held = Held(model, graph, batch, micro_batch_size)
        self.ids, self.kept, self.off = self.held.ids, self.held.kept, self.held.off
        self.row_sums: dict[Owner, RowSum] = {}
        self.saved: dict[_Place, tuple[dict[Output, Encoding], dict[Owner, RowSum]]] = {}
        self.batch_losses: dict[int, dict[Owner, Tensor]] = {}
        self.result = StepResult()
        self.moved: set[_Place] = set()
        """Where running statistics of row nodes have moved."""

    # --- forward ---------------------------------------------------------------------------------------

    def forward(self) -> None:
        for wave in range(self.graph.waves):
            self._rows_forward(wave)
            self._batch_forward(wave)
        for owner, sums in self.row_sums.items():
            weight = self._loss_weight(owner)
            self._record(owner, sums.value / positive(sums.weight), weight, sums)
        self.result.memories = self.held.next_memories

    def _rows_forward(self, wave: int) -> None:
        for axis, nodes in self._row_nodes(wave).items():
            self.held.name_gathered(nodes)
            single = self.held.single(axis)
            pieces: dict[Output, list[Encoding]] = {}
            for ordinal, rows in enumerate(self.held.slices(axis)):
                with torch.set_grad_enabled(single), running_statistics(self.model.root, move=single):
                    outputs, sums = self._run_rows(nodes, rows, ordinal, leaves=None)
                if single:
                    self.saved[wave, axis] = (outputs, sums)
                for output, encoding in outputs.items():
                    if output in self.graph.kept:
                        pieces.setdefault(output, []).append(encoding)
                for owner, piece in sums.items():
                    before = self.row_sums.get(owner)
                    value, weight = piece.value.detach(), piece.weight.detach()
                    self.row_sums[owner] = RowSum(
                        value if before is None else before.value + value,
                        weight if before is None else before.weight + weight,
                        piece.rows if before is None else before.rows + piece.rows,
                    )
            for output, parts in pieces.items():
                self.kept[output] = cut(join(parts), output[1])

    def _at(self, wave: int, scope: Scope) -> list[Node]:
        return [node for node in self.graph.at(wave, scope) if node.owner not in self.off]

    def _row_nodes(self, wave: int) -> dict[str, list[Node]]:
        """The row nodes of a wave by their axis; those of one do not read those of another."""
        found: dict[str, list[Node]] = {}
        for node in self._at(wave, "row"):
            found.setdefault(node.rows, []).append(node)
        return found

    def _run_rows(
        self, nodes: list[Node], rows: slice, ordinal: int, leaves: Leaves | None
    ) -> tuple[dict[Output, Encoding], dict[Owner, RowSum]]:
        """Run a wave's row nodes on a micro-batch. `leaves` collects cut inputs that want a gradient."""
        values: dict[Owner, Encoding] = {}
        sums: dict[Owner, RowSum] = {}
        axis = nodes[0].rows
        ids = {axis: self.ids[axis][rows]} if axis in self.ids else {}

        def fetch(output: Output) -> Encoding | None:
            owner, name = output
            if not isinstance(owner, str) and owner in values:
                found = values[owner]
                return Encoding({name: found.outputs[name]}, found.axes, found.present)
            return self.held.outside(output, axis, rows, leaves)

        with torch.autocast(self.model.device.type, self.autocast, enabled=self.autocast is not None):
            for node in nodes:
                if node.role == "loss":
                    if node.owner in self.active:
                        sums[node.owner] = self._row_loss(node, fetch, ids)
                else:
                    by_place = self.held.gathered(node, rows, leaves) if node.gathers else None
                    with torch.set_grad_enabled(torch.is_grad_enabled() and node.trains):
                        values[node.owner] = self.execution.encode(node, fetch, ids, ordinal=ordinal, by_place=by_place)
        flat: dict[Output, Encoding] = {
            (owner, name): Encoding({name: value}, e.axes, e.present)
            for owner, e in values.items()
            for name, value in e.outputs.items()
        }
        return flat, sums

    def _row_loss(self, node: Node, fetch: Fetch, ids: Ids) -> RowSum:
        reads = {read.place: self.execution.fetch(read, fetch) for read in node.reads}
        zero = torch.zeros((), device=self.model.device, dtype=self.model.dtype)
        return row_loss(self.execution, node, reads, ids) or RowSum(zero, zero)

    def _batch_forward(self, wave: int) -> None:
        losses: dict[Owner, Tensor] = {}
        for node in self._at(wave, "batch"):
            if node.role == "loss":
                if node.owner in self.active and (value := self._batch_loss(node)) is not None:
                    losses[node.owner] = value
            elif node.role == "memory":
                self._memory_update(node)
            else:
                with torch.set_grad_enabled(node.trains):
                    encoding = self.execution.encode(node, self.held.whole(wave), self.ids, ordinal=-1)
                for name, value in encoding.outputs.items():
                    output = (node.owner, name)
                    self.held.batch_values[output] = Encoding({name: value}, encoding.axes, encoding.present)
                    if output in self.graph.kept:
                        self.kept[output] = cut(self.held.batch_values[output], name, keep_graph=True)
        self.batch_losses[wave] = losses

    def _batch_loss(self, node: Node) -> Tensor | None:
        reads = {read.place: self.execution.fetch(read, self.held.whole(node.wave)) for read in node.reads}
        found = batch_loss(self.execution, node, reads, self.ids)
        if found is None:
            return None
        weight = self._loss_weight(node.owner) if found.rows else 0.0
        self._record(node.owner, found.value.detach(), weight, found)
        return found.value * weight if found.value.requires_grad else None

    def _loss_weight(self, owner: Owner) -> float | Tensor:
        node = self.graph.nodes[owner]
        for read in node.reads:
            if read.place == WEIGHT and read.target.section in ("losses", "parts"):
                found = self.execution.fetch(read, self.held.whole(node.wave))
                assert found is not None
                return found["value"].reshape(())
        return self.execution.built(node.component, node.site, "weight")

    def _record(self, owner: Owner, value: Tensor, weight: float | Tensor, sums: RowSum) -> None:
        name = owner.name
        self.result.losses[name], self.result.rows[name] = value, sums.rows
        self.result.shares[name] = sums.weight.detach()
        self.result.weights[name] = weight.detach() if isinstance(weight, Tensor) else weight

    # --- backward --------------------------------------------------------------------------------------

    def backward(
        self, losses: Collection[Owner], *, joint: bool = False, scale: float = 1.0, last: bool = True
    ) -> None:
        """Add the gradient of the sum of `losses`, times `scale`, to the parameters' `.grad`.

        `last`: no other call will follow. `joint`: the sums over the rows of all of them are divided by the number of
        all these rows.
        """
        factors = self._factors(losses, joint)
        scaled = {owner: factor * scale for owner, factor in factors.items()}
        for kept in self.kept.values():
            if kept.leaf is not None:
                kept.leaf.grad = None
        for wave in reversed(range(self.graph.waves)):
            found = {owner: loss for owner, loss in self.batch_losses.get(wave, {}).items() if owner in factors}
            roots: list[Tensor] = [loss * scaled[owner] for owner, loss in found.items()]
            gradients: list[Tensor | None] = [None] * len(roots)
            for node in self.graph.at(wave, "batch"):
                for (owner, _), kept in self.kept.items():
                    if (
                        owner == node.owner
                        and kept.origin is not None
                        and kept.leaf is not None
                        and kept.leaf.grad is not None
                    ):
                        roots.append(kept.origin)
                        gradients.append(kept.leaf.grad)
            _backward(roots, gradients, retain=not last)
            self._rows_backward(wave, scaled, last=last)

    def _factors(self, losses: Collection[Owner], joint: bool) -> dict[Owner, float | Tensor]:
        """The factor of each loss in the sum, beside its weight: 1, or its share of the rows of all."""
        found = [owner for owner in losses if owner.name in self.result.losses]
        if not joint:
            return dict.fromkeys(found, 1.0)
        shares = self.result.shares
        total = (
            positive(torch.stack([shares[owner.name].to(self.model.dtype) for owner in found]).sum()) if found else 1
        )
        factors: dict[Owner, float | Tensor] = {owner: shares[owner.name] / total for owner in found}
        for owner, factor in factors.items():
            self.result.weights[owner.name] = self.result.weights[owner.name] * factor
        return factors

    def _rows_backward(self, wave: int, factors: Mapping[Owner, float | Tensor], *, last: bool) -> None:
        for axis, nodes in self._row_nodes(wave).items():
            self._axis_backward((wave, axis), nodes, factors, last=last)

    def _axis_backward(
        self, place: _Place, nodes: list[Node], factors: Mapping[Owner, float | Tensor], *, last: bool
    ) -> None:
        owners = {node.owner for node in nodes}
        outputs = [output for output in self.graph.kept if output in self.kept and output[0] in owners]
        wanted = [o for o in outputs if (leaf := self.kept[o].leaf) is not None and leaf.grad is not None]
        losses = [n for n in nodes if n.role == "loss" and n.owner in self.row_sums and n.owner in factors]
        if not wanted and not losses:
            return
        single = self.held.single(place[1])
        move = place not in self.moved
        self.moved.add(place)
        for ordinal, rows in enumerate(self.held.slices(place[1])):
            leaves: Leaves = {}
            if single:
                values, sums = self.saved[place]
            else:
                with torch.enable_grad(), running_statistics(self.model.root, move=move):
                    values, sums = self._run_rows(nodes, rows, ordinal, leaves)
            roots: list[Tensor] = []
            gradients: list[Tensor | None] = []
            for output in wanted:
                value = values[output].outputs[output[1]]
                tensor = value.values if isinstance(value, Tokens) else value
                leaf = self.kept[output].leaf
                assert leaf is not None
                assert leaf.grad is not None
                if tensor.requires_grad:
                    part = leaf.grad[rows]
                    roots.append(tensor)
                    gradients.append(
                        (part[:, : tensor.shape[1]] if isinstance(value, Tokens) else part).to(tensor.dtype)
                    )
            for node in losses:
                if sums[node.owner].value.requires_grad:
                    total = positive(self.row_sums[node.owner].weight)
                    factor = self._loss_weight(node.owner) / total * factors[node.owner]
                    roots.append(sums[node.owner].value * factor)
                    gradients.append(None)
            _backward(roots, gradients, retain=single and not last)
            for (output, _), (leaf, read) in leaves.items():
                self.kept[output].add_gradient(read, leaf.grad)
        if last:
            self.saved.pop(place, None)

    # --- memories --------------------------------------------------------------------------------------

    @torch.no_grad()
    def _memory_update(self, node: Node) -> None:
        memory = node.component
        assert isinstance(memory, Memory)
        state = self.model.memories[node.owner]
        if memory.active is not None and not memory.active.at(self.execution.clock.step, self.execution.clock.epoch):
            return
        reads = {r.place: self.execution.fetch(r, self.held.whole(node.wave)) for r in node.reads}
        kept, index, count = batch_inputs(inputs_of(reads))
        ids = picked(self.ids.get(row_axis(list(kept.values())), ()), index, count)
        if (given := reads.get(ROWS)) is not None:
            chosen = row_weights(given, index) > 0
            ids = picked(ids, chosen.nonzero().flatten(), count)
            kept = {p: e.rows(chosen) if e is not None else None for p, e in kept.items()}
            count = int(chosen.sum())
        if count:
            columns = {
                str(place[1]): remembered(next(iter(e.outputs.values())), self.model.device)
                for place, e in kept.items()
                if place[0] == "of" and e is not None
            }
            beside = {place: e for place, e in kept.items() if place[0] != "of"}
            self.held.next_memories[node.owner] = self.execution.update(node, state, columns, ids, beside)


def _backward(roots: list[Tensor], gradients: list[Tensor | None], *, retain: bool) -> None:
    if roots:
        torch.autograd.backward(roots, gradients, retain_graph=retain)
