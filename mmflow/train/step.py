"""One training step: row nodes in micro-batches, batch nodes once, gradients of the whole batch exactly.

A step runs in waves (see `mmflow.model.graph`). Forward, wave by wave: row nodes run in micro-batches,
without gradient where there are several; encodings that a batch node or a later wave reads are kept whole, as leaves
cut from the encoders' graph; batch nodes run once on these leaves. Backward, in reverse: batch nodes give the
leaves their gradients, then the row nodes run again, micro-batch by micro-batch, and pass them on. With one
micro-batch nothing is run twice. The scheme generalizes gradient caching (Gao et al., 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmflow.data import Batch
from mmflow.model.execution import Fetch
from mmflow.model.graph import Node, Output
from mmflow.model.model import Model
from mmflow.model.rows import batch_inputs
from mmflow.plugin.kinds import Memory
from mmflow.plugin.numbers import Clock
from mmflow.plugin.targets import Owner
from mmflow.plugin.values import Encoding, Tokens
from mmflow.train.cuts import Kept, cut, join, running_statistics
from mmflow.train.losses import (
    ROWS,
    RowSum,
    StepResult,
    active,
    batch_loss,
    inputs_of,
    picked,
    positive,
    row_loss,
    row_weights,
)


class Step:
    """Computes the gradients of one global batch into the parameters' `.grad`, and the memories' next state."""

    def __init__(
        self, model: Model, *, micro_batch_size: int | None, autocast: torch.dtype | None = None,
        scale: float = 1.0,
    ) -> None:  # fmt: skip
        self.model, self.graph, self.execution = model, model.graph, model.execution
        self.micro_batch_size, self.autocast, self.scale = micro_batch_size, autocast, scale
        self.losses = {n.owner: n for n in self.graph.nodes.values() if n.role == "loss"}
        self.active: set[Owner] = set()
        # A tower that is frozen as a whole behaves as in evaluation; an averaged one follows its model.
        self.still = [
            module
            for node in self.graph.nodes.values()
            if (module := model.modules.at(node.module)) is not None
            and not node.follows
            and not any(p.requires_grad for p in module.parameters())
            and any(True for _ in module.parameters())
        ]

    def run(self, batch: Batch, clock: Clock) -> StepResult:
        """Forward and backward over `batch`. Gradients are added to `.grad`; memories are returned, not set."""
        self.execution.clock = clock
        self.model.root.train()
        for module in self.still:
            module.eval()
        self.active = {owner for owner, node in self.losses.items() if active(node, clock)}
        run = _Run(self, batch)
        run.forward()
        run.backward()
        run.update_memories()
        return run.result

    def slices(self, size: int) -> list[slice]:
        """The micro-batches of a batch; a batch without rows (static fields alone) is one."""
        if not size:
            return [slice(0, 0)]
        micro = self.micro_batch_size or size
        return [slice(start, min(start + micro, size)) for start in range(0, size, micro)]


class _Run:
    """The state of one step while it runs."""

    def __init__(self, step: Step, batch: Batch) -> None:
        self.step, self.batch = step, batch
        self.model, self.graph, self.execution = step.model, step.graph, step.execution
        self.slices = step.slices(batch.size)
        self.single = len(self.slices) == 1
        self.columns = self.model.columns(batch)
        self.kept: dict[Output, Kept] = {}
        self.row_sums: dict[Owner, RowSum] = {}
        self.saved: dict[int, tuple[dict[Output, Encoding], dict[Owner, RowSum]]] = {}
        self.batch_values: dict[Output, Encoding] = {}
        self.batch_losses: dict[int, list[Tensor]] = {}
        self.next_memories: dict[Owner, dict[str, Tensor]] = {}
        self.result = StepResult()

    # --- forward ---------------------------------------------------------------------------------------

    def forward(self) -> None:
        for wave in range(self.graph.waves):
            self._rows_forward(wave)
            self._batch_forward(wave)
        for owner, sums in self.row_sums.items():
            weight = self._loss_weight(owner)
            self._record(owner, sums.value / positive(sums.weight), weight, sums)

    def _rows_forward(self, wave: int) -> None:
        nodes = self.graph.at(wave, "row")
        if not nodes:
            return
        pieces: dict[Output, list[Encoding]] = {}
        for ordinal, rows in enumerate(self.slices):
            with torch.set_grad_enabled(self.single), running_statistics(self.model.root, move=self.single):
                outputs, sums = self._row_nodes(nodes, rows, ordinal, leaves=None)
            if self.single:
                self.saved[wave] = (outputs, sums)
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

    def _row_nodes(
        self, nodes: list[Node], rows: slice, ordinal: int, leaves: dict[Output, Tensor] | None
    ) -> tuple[dict[Output, Encoding], dict[Owner, RowSum]]:
        """Run a wave's row nodes on a micro-batch. `leaves` collects cut inputs that want a gradient."""
        values: dict[Owner, Encoding] = {}
        sums: dict[Owner, RowSum] = {}

        def fetch(output: Output) -> Encoding | None:
            owner, name = output
            if not isinstance(owner, str) and owner in values:
                found = values[owner]
                return Encoding({name: found.outputs[name]}, found.axes, found.present)
            return self._outside(output, rows, leaves)

        with torch.autocast(self.model.device.type, self.step.autocast, enabled=self.step.autocast is not None):
            for node in nodes:
                if node.role == "loss":
                    if node.owner in self.step.active:
                        sums[node.owner] = self._row_loss(node, fetch, self.batch.ids[rows])
                else:
                    with torch.set_grad_enabled(torch.is_grad_enabled() and node.trains):
                        values[node.owner] = self.execution.encode(node, fetch, self.batch.ids[rows], ordinal=ordinal)
        flat: dict[Output, Encoding] = {
            (owner, name): Encoding({name: value}, e.axes, e.present)
            for owner, e in values.items()
            for name, value in e.outputs.items()
        }
        return flat, sums

    def _outside(self, output: Output, rows: slice, leaves: dict[Output, Tensor] | None) -> Encoding | None:
        """A row node's read from outside its wave: a column, a kept output (its rows), or a memory."""
        owner, name = output
        if isinstance(owner, str):
            column = self.columns[owner]
            return column.rows(rows) if column.axes[:1] == ("sample",) else column
        if owner.section == "memories":
            return self._memory(owner, name)
        kept = self.kept[output]
        whole = kept.encoding
        piece = whole.rows(rows) if whole.axes[:1] == ("sample",) else whole
        if leaves is None and not self.single:
            return piece
        if self.single or kept.leaf is None:
            return piece
        assert leaves is not None
        if output not in leaves:
            value = piece.outputs[name]
            tensor = (value.values if isinstance(value, Tokens) else value).detach().requires_grad_()
            leaves[output] = tensor
        tensor = leaves[output]
        value = piece.outputs[name]
        again = Tokens(tensor, value.mask) if isinstance(value, Tokens) else tensor
        return Encoding({name: again}, piece.axes, piece.present)

    def _row_loss(self, node: Node, fetch: Fetch, ids: Sequence[str]) -> RowSum:
        reads = {read.place: self.execution.fetch(read, fetch) for read in node.reads}
        zero = torch.zeros((), device=self.model.device, dtype=self.model.dtype)
        return row_loss(self.execution, node, reads, ids) or RowSum(zero, zero)

    def _batch_forward(self, wave: int) -> None:
        losses: list[Tensor] = []
        for node in self.graph.at(wave, "batch"):
            if node.role == "loss":
                if node.owner in self.step.active and (value := self._batch_loss(node)) is not None:
                    losses.append(value)
            elif node.role == "memory":
                self._memory_update(node)
            else:
                with torch.set_grad_enabled(node.trains):
                    encoding = self.execution.encode(node, self._whole(wave), self.batch.ids, ordinal=-1)
                for name, value in encoding.outputs.items():
                    output = (node.owner, name)
                    self.batch_values[output] = Encoding({name: value}, encoding.axes, encoding.present)
                    if output in self.graph.kept:
                        self.kept[output] = cut(self.batch_values[output], name, keep_graph=True)
        self.batch_losses[wave] = losses

    def _whole(self, wave: int, *, after: bool = False) -> Fetch:
        """Reads of a batch node of `wave`: columns, memories, kept leaves, live values of that wave's batch nodes."""

        def fetch(output: Output) -> Encoding | None:
            owner, name = output
            if isinstance(owner, str):
                return self.columns[owner]
            if owner.section == "memories":
                return self._memory(owner, name, after=after)
            producer = self.graph.nodes[owner]
            # Within a wave the graph stays whole: a leaf here would get its gradient after its origin was used.
            if producer.scope == "batch" and producer.wave == wave:
                return self.batch_values[output]
            return self.kept[output].encoding

        return fetch

    def _batch_loss(self, node: Node) -> Tensor | None:
        reads = {
            read.place: self.execution.fetch(read, self._whole(node.wave, after=read.target.after))
            for read in node.reads
        }
        found = batch_loss(self.execution, node, reads, self.batch.ids)
        if found is None:
            return None
        weight = self._loss_weight(node.owner) if found.rows else 0.0
        self._record(node.owner, found.value.detach(), weight, found)
        return found.value * weight if found.value.requires_grad else None

    def _loss_weight(self, owner: Owner) -> float | Tensor:
        node = self.graph.nodes[owner]
        return self.execution.built(node.component, node.site, "weight")

    def _record(self, owner: Owner, value: Tensor, weight: float | Tensor, sums: RowSum) -> None:
        name = owner.name
        self.result.losses[name], self.result.rows[name] = value, sums.rows
        self.result.shares[name] = sums.weight.detach()
        self.result.weights[name] = weight.detach() if isinstance(weight, Tensor) else weight

    # --- backward --------------------------------------------------------------------------------------

    def backward(self) -> None:
        scale = self.step.scale
        for wave in reversed(range(self.graph.waves)):
            roots: list[Tensor] = [loss * scale for loss in self.batch_losses.get(wave, ())]
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
            _backward(roots, gradients)
            self._rows_backward(wave)

    def _rows_backward(self, wave: int) -> None:
        nodes = self.graph.at(wave, "row")
        outputs = [o for o in self.graph.kept if o in self.kept and self._is_row(o, wave)]
        wanted = [o for o in outputs if (leaf := self.kept[o].leaf) is not None and leaf.grad is not None]
        losses = [n for n in nodes if n.role == "loss" and n.owner in self.row_sums]
        if not wanted and not losses:
            return
        for ordinal, rows in enumerate(self.slices):
            leaves: dict[Output, Tensor] = {}
            if self.single:
                values, sums = self.saved.pop(wave)
            else:
                with torch.enable_grad(), running_statistics(self.model.root, move=True):
                    values, sums = self._row_nodes(nodes, rows, ordinal, leaves)
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
                    factor = self._loss_weight(node.owner) / total * self.step.scale
                    roots.append(sums[node.owner].value * factor)
                    gradients.append(None)
            _backward(roots, gradients)
            for output, leaf in leaves.items():
                whole = self.kept[output].encoding.axes[:1] != ("sample",)
                self.kept[output].add_gradient(slice(None) if whole else rows, leaf.grad)

    def _is_row(self, output: Output, wave: int) -> bool:
        node = self.graph.producer(output)
        return node is not None and node.scope == "row" and node.wave == wave

    # --- memories --------------------------------------------------------------------------------------

    def _memory(self, owner: Owner, column: str, *, after: bool = False) -> Encoding | None:
        state = self.next_memories[owner] if after and owner in self.next_memories else self.model.memories[owner]
        return self.model.remembered(owner, column, state)

    @torch.no_grad()
    def _memory_update(self, node: Node) -> None:
        memory = node.component
        assert isinstance(memory, Memory)
        state = self.model.memories[node.owner]
        if memory.active is not None and not memory.active.at(self.execution.clock.step, self.execution.clock.epoch):
            return
        reads = {r.place: self.execution.fetch(r, self._whole(node.wave)) for r in node.reads}
        kept, index, count = batch_inputs(inputs_of(reads))
        ids = picked(self.batch.ids, index)
        if (given := reads.get(ROWS)) is not None:
            chosen = row_weights(given, index) > 0
            ids = picked(ids, chosen.nonzero().flatten())
            kept = {p: e.rows(chosen) if e is not None else None for p, e in kept.items()}
            count = int(chosen.sum())
        if count:
            columns = {
                str(place[1]): next(iter(e.outputs.values())).detach() for place, e in kept.items() if e is not None
            }
            self.next_memories[node.owner] = self.execution.update(node, state, columns, ids)

    def update_memories(self) -> None:
        self.result.memories = self.next_memories


def _backward(roots: list[Tensor], gradients: list[Tensor | None]) -> None:
    if roots:
        torch.autograd.backward(roots, gradients)
