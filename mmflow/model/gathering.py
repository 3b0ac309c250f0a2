"""Rows that a node gathers: those of its inputs that indices name, with their ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mmflow.model.graph import Graph, Node, Output
from mmflow.model.rows import taken
from mmflow.plugin.kinds import StageScope
from mmflow.plugin.targets import Place
from mmflow.plugin.values import Encoding

Ids = Mapping[str, Sequence[str]]
"""The ids of rows, by their axis."""

Fetch = Callable[[Output], Encoding | None]
"""Gives one output as an `Encoding` that holds just it, or None where a memory is not ready."""


def gathered(indices: Sequence[Encoding], fetch: Fetch) -> dict[Place, Fetch]:
    """For each input of a node that gathers its rows, how these are had: the rows that its index names."""

    def source(index: Encoding) -> Fetch:
        def take(output: Output) -> Encoding | None:
            whole = fetch(output)
            return None if whole is None else taken(whole, index)

        return take

    return {("of", number): source(index) for number, index in enumerate(indices)}


def gathered_ids(node: Node, indices: Sequence[Encoding], ids: Ids, graph: Graph, scope: StageScope) -> list[str]:
    """The ids of the rows that a node gathers: those of the rows that they are made of."""
    found: list[list[str]] = []
    for number, index in enumerate(indices):
        of = next(one for one in node.given if one.place == ("of", number))
        producer = graph.producer(of.outputs[0])
        axis = producer.rows if producer is not None else scope.type_of(of.target).axes[0]
        names = ids.get(axis)
        numbers: list[int] = next(iter(index.outputs.values())).tolist()
        found.append([str(one) if names is None else names[one] for one in numbers])
    return list(map("/".join, zip(*found, strict=True)))
