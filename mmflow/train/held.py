"""The values of one forward, and how nodes read them: columns, outputs kept whole, memories, rows that are gathered."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmflow.data import Batch
from mmflow.model.gathering import Fetch, gathered_ids
from mmflow.model.graph import Graph, Node, Output, column_of
from mmflow.model.model import Model
from mmflow.model.rows import taken
from mmflow.plugin.targets import Owner, Place
from mmflow.plugin.values import Encoding, Tokens, same_rows
from mmflow.train.cuts import Kept

Leaves = dict[tuple[Output, int], tuple[Tensor, slice | Tensor]]
"""Cut rows of kept outputs, each with the rows that it stands for; by the input's number in a node that gathers."""


class Held:
    """What a forward has computed so far, and the micro-batches that it cuts rows into."""

    def __init__(self, model: Model, graph: Graph, batch: Batch, micro_batch_size: int | None) -> None:
        self.model, self.graph, self.execution = model, graph, model.execution
        self.micro_batch_size = micro_batch_size
        self.ids: dict[str, Sequence[str]] = dict(batch.row_ids())
        """The ids of rows that are cut into micro-batches, by axis: those of samples, and those that are gathered."""
        self.columns = model.columns(batch)
        self.off = graph.without(self.columns)
        """Nodes that need values which no stage has given yet."""
        self.kept: dict[Output, Kept] = {}
        self.batch_values: dict[Output, Encoding] = {}
        self.next_memories: dict[Owner, dict[str, Tensor]] = {}

    def slices(self, axis: str) -> list[slice]:
        """The micro-batches of an axis; rows that belong to no sample (static fields alone) are one."""
        size = len(self.ids.get(axis, ()))
        micro = self.micro_batch_size or size
        return [slice(start, min(start + micro, size)) for start in range(0, size, micro)] if size else [slice(None)]

    def single(self, axis: str) -> bool:
        """Whether the rows of an axis are one micro-batch, so that nothing is run twice."""
        return len(self.slices(axis)) == 1

    def name_gathered(self, nodes: Sequence[Node]) -> None:
        """The ids of the rows that nodes gather, which say how many there are."""
        for node in nodes:
            if node.gathers and node.rows not in self.ids:
                indices = self.execution.indices(node, self.whole(node.wave))
                self.ids[node.rows] = gathered_ids(node, indices, self.ids, self.graph, self.model.scope)

    def outside(self, output: Output, axis: str, rows: slice, leaves: Leaves | None) -> Encoding | None:
        """A read from outside its wave by a row node of `axis`: a column, a kept output (its rows), or a memory."""
        owner, name = output
        if isinstance(owner, str):
            column = self.columns.get(owner)
            return column.rows(rows) if column is not None and same_rows(column.axes[0], axis) else column
        if owner.section == "memories":
            return self.memory(owner, name)
        if owner in self.off:
            return None
        kept = self.kept[output]
        own = same_rows(kept.encoding.axes[0], axis)
        piece = kept.encoding.rows(rows) if own else kept.encoding
        return self._leaf(output, piece, rows if own else slice(None), axis, leaves)

    def gathered(self, node: Node, rows: slice, leaves: Leaves | None) -> dict[Place, Fetch]:
        """For each input of a node that gathers its rows, how those of a micro-batch are had."""
        whole = self.whole(node.wave)

        def source(index: Encoding, number: int) -> Fetch:
            numbers: Tensor = next(iter(index.outputs.values())).clamp_min(0)

            def take(output: Output) -> Encoding | None:
                owner, _ = output
                if isinstance(owner, str) or owner.section == "memories":
                    found = whole(output)
                    return None if found is None else taken(found, index)
                found = taken(self.kept[output].encoding, index)
                return self._leaf(output, found, numbers, node.rows, leaves, number)

            return take

        indices = self.execution.indices(node, whole)
        return {("of", number): source(index.rows(rows), number) for number, index in enumerate(indices)}

    def _leaf(
        self, output: Output, piece: Encoding, rows: slice | Tensor, axis: str, leaves: Leaves | None, number: int = -1
    ) -> Encoding:
        """Rows of a kept output as a micro-batch reads them: cut again where the nodes are run a second time."""
        kept, name = self.kept[output], output[1]
        if leaves is None or kept.leaf is None or self.single(axis):
            return piece
        value = piece.outputs[name]
        if (output, number) not in leaves:
            tensor = (value.values if isinstance(value, Tokens) else value).detach().requires_grad_()
            leaves[output, number] = (tensor, rows)
        tensor, _ = leaves[output, number]
        again = Tokens(tensor, value.mask) if isinstance(value, Tokens) else tensor
        return Encoding({name: again}, piece.axes, piece.present)

    def whole(self, wave: int) -> Fetch:
        """Reads of a batch node of `wave`: columns, memories, kept leaves, live values of that wave's batch nodes."""

        def fetch(output: Output) -> Encoding | None:
            owner, name = output
            if isinstance(owner, str):
                return self.columns.get(owner)
            if owner.section == "memories":
                return self.memory(owner, name)
            if owner in self.off:
                return None
            producer = self.graph.nodes[owner]
            # Within a wave the graph stays whole: a leaf here would get its gradient after its origin was used.
            if producer.scope == "batch" and producer.wave == wave:
                return self.batch_values[output]
            return self.kept[output].encoding

        return fetch

    def memory(self, owner: Owner, name: str) -> Encoding | None:
        _, after = column_of(name)
        state = self.next_memories[owner] if after and owner in self.next_memories else self.model.memories[owner]
        return self.model.remembered(owner, name, state)
