"""What a training step will do, told before it is run: waves, what is kept whole and how large, what to know.

Torch-free: from declared sizes alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from mmflow.model.graph import Graph, build_graph, inputs_of, structure_of
from mmflow.plugin.kinds import Encoder
from mmflow.plugin.values import TensorType

BYTES = {"float32": 4, "float64": 8, "int64": 8, "int32": 4, "bool": 1, "uint8": 1, "float16": 2, "bfloat16": 2}


def outlook(spec: Any) -> list[str]:
    """Lines about each train stage of a resolved spec."""
    lines: list[str] = []
    for name, declaration in spec.stages.items():
        if "micro_batch_size" not in type(declaration).model_fields:
            continue
        scope = spec.scope(name)
        losses = [f"losses.{loss}" for loss in scope.losses]
        graph = build_graph(scope, [*losses, *(o for o in scope.reach(*losses) if o.startswith("memories."))])
        lines += [f"{name}: {line}" for line in _stage(graph, scope, declaration)]
    return lines


def _stage(graph: Graph, scope: Any, declaration: Any) -> Iterator[str]:
    size, micro = declaration.batch_size, declaration.micro_batch_size
    yield f"{graph.waves} wave{'s' if graph.waves > 1 else ''}, batches of {size} in micro-batches of {micro or size}"
    kept = [
        (f"{owner.partition('.')[2]}.{name}", _bytes(graph, scope, owner, name, size)) for owner, name in graph.kept
    ]
    known = sum(count for _, count in kept if count is not None)
    unknown = sorted(label for label, count in kept if count is None)
    if kept:
        beside = f", and {', '.join(unknown)} of unknown size" if unknown else ""
        yield f"keeps {len(kept)} outputs of the whole batch: {known / 1e6:.1f} MB{beside}"
    if micro is None or micro >= size:
        return
    for node in graph.nodes.values():
        if node.scope == "row" and isinstance(node.structure, Encoder) and node.structure.batch_statistics():
            yield f"{node.owner} has batch norm inside, which sees its micro-batch of {micro} rows only"
    draws = sorted(set(graph.draws()))
    if draws:
        yield f"{', '.join(draws)} draw (dropout), so micro_batch_size is part of the result"


def _label(graph: Graph, owner: str, name: str) -> str:
    """An output by the name that a reader of the spec knows: `image.tokens`, whether a projection gives it or not."""
    role = graph.nodes[owner].role
    encoder = owner.split(".")[1]
    return f"{encoder}.{role if role == 'tokens' else 'pooled' if role == 'head' else name}"


def _bytes(graph: Graph, scope: Any, owner: str, name: str, rows: int) -> int | None:
    node = graph.nodes[owner]
    encoder = ".".join(owner.split(".")[:2])
    declared = declared_outputs(scope, encoder).get("pooled" if node.role == "head" else name)
    if node.role in ("head", "tokens") and isinstance(node.structure, Encoder):
        before = declared_outputs(scope, encoder).get("pooled" if node.role == "head" else "tokens")
        declared = node.structure.outputs(before).get("pooled") if before is not None else None
    if declared is None or any(s is None for s in (*declared.size, *declared.groups)):
        return None
    count = prod(s for s in (*declared.size, *declared.groups) if s is not None)
    return rows * count * BYTES.get(declared.dtype, 4)


def declared_outputs(scope: Any, owner: str) -> dict[str, TensorType]:
    """What the body of an encoder declares, before its projections."""
    structure = structure_of(scope, owner)[1]
    return dict(structure.outputs(*(scope.type_of(target) for _, target in inputs_of(scope, owner))))
