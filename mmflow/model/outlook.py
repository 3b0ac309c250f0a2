"""A training step, told before it is run: its waves, the outputs that it keeps whole and how large, and its caveats.

Torch-free: from declared sizes alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Protocol

from mmflow.model.graph import Graph, Output
from mmflow.model.graph_builder import build_graph
from mmflow.plugin.kinds import BatchSizes, Encoder, Stage, StageScope, StageSpec
from mmflow.plugin.streams import axis_of, stream_of
from mmflow.plugin.targets import Owner
from mmflow.plugin.values import SAMPLE, TensorType

BYTES = {"float32": 4, "float64": 8, "int64": 8, "int32": 4, "bool": 1, "uint8": 1, "float16": 2, "bfloat16": 2}

MOST_LISTED, MOST_SIGNS = 12, 60
"""Names in one line, and signs of each."""


class StagedSpec(StageSpec, Protocol):
    """A whole spec with the declarations of its stages."""

    @property
    def stages(self) -> Mapping[str, Stage]: ...


def outlook(spec: StagedSpec) -> list[str]:
    """Lines about each stage of a resolved spec that takes steps."""
    lines: list[str] = []
    for name, declaration in spec.stages.items():
        sizes = declaration.sizes()
        if sizes is None:
            continue
        scope = spec.scope(name)
        graph = build_graph(scope, scope.roots())
        lines += [
            f"{name}: {line}" for line in (*_stage(graph, scope, declaration, sizes), *_frozen(graph, declaration))
        ]
    return lines


def _stage(graph: Graph, scope: StageScope, declaration: Stage, sizes: BatchSizes) -> Iterator[str]:
    micro = sizes.micro
    streams = {axis_of(name) if name else SAMPLE: drawn.size for name, drawn in declaration.drawn().items()}
    size = max(streams.values(), default=sizes.batch)
    each = [f"{n}{f' of {stream_of(axis)}' if stream_of(axis) else ''}" for axis, n in streams.items()]
    said = _listed(each) if len(each) > MOST_LISTED else " and ".join(each)
    waves = f"{graph.waves} wave{'s' if graph.waves > 1 else ''}"
    yield f"{waves}, batches of {said} in micro-batches of {min(micro, size)}"
    kept = [(_label(graph, output), _bytes(graph, scope, output, streams, size)) for output in graph.kept]
    known = sum(count for _, count in kept if count is not None)
    unknown = sorted(label for label, count in kept if count is None)
    if kept:
        beside = f", and {_listed(unknown)} of unknown size" if unknown else ""
        yield f"keeps {len(kept)} outputs of the whole batch: {known / 1e6:.1f} MB{beside}"
    if micro >= size:
        return
    for node in graph.working:
        if node.scope == "row" and isinstance(node.structure, Encoder) and node.structure.batch_statistics():
            yield f"{node.owner} has batch norm inside, which sees its micro-batch of {micro} rows only"
    draws = sorted(map(str, set(graph.draws())))
    if draws:
        yield f"{_listed(draws)} draw (dropout), so micro_batch_size is part of the result"


def _frozen(graph: Graph, declaration: Stage) -> Iterator[str]:
    """The encoders of which not all parameters train, by what is declared."""
    if patterns := declaration.patterns():
        yield f"only parameters that a group matches train: {_listed([*patterns.values()])}"
        return
    for node in graph.working:
        made = node.component
        if node.role == "encoder" and isinstance(made, Encoder) and made.freeze:
            freeze = made.freeze
            left = "its projections" if freeze == "body" else _listed(getattr(freeze, "but", ()))
            yield f"{node.owner} is frozen{f' but for {left}' if left else ''}"


def _listed(names: Sequence[str]) -> str:
    """The first names, each cut to what a line holds, and how many more there are."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(n if len(n) <= MOST_SIGNS else f"{n[: MOST_SIGNS - 3]}..." for n in names[:MOST_LISTED]) + more


def _label(graph: Graph, output: Output) -> str:
    """An output by the name that a reader of the spec knows: `image.tokens`, whether a projection gives it or not."""
    node, name = graph.producer(output), output[1]
    if node is None:
        return f"{output[0]}.{name}"
    role = node.role
    return f"{node.owner.name}.{role if role == 'tokens' else 'pooled' if role == 'head' else name}"


def _bytes(graph: Graph, scope: StageScope, output: Output, streams: Mapping[str, int], size: int) -> int | None:
    node, name = graph.producer(output), output[1]
    if node is None or not isinstance(node.structure, Encoder):
        return None
    if node.role in ("head", "tokens"):
        before = declared_outputs(scope, node.owner.whole).get("pooled" if node.role == "head" else "tokens")
        declared = node.structure.outputs(before).get("pooled") if before is not None else None
    else:
        declared = declared_outputs(scope, node.owner).get(name)
    if declared is None or any(s is None for s in (*declared.size, *declared.groups)):
        return None
    count = prod(s for s in (*declared.size, *declared.groups) if s is not None)
    return streams.get(node.rows, size) * count * BYTES.get(declared.dtype, 4)


def declared_outputs(scope: StageScope, owner: Owner) -> dict[str, TensorType]:
    """The outputs that the body of an encoder declares, before its projections."""
    structure = scope.structure(owner).encoder
    return dict(structure.outputs(*map(scope.type_of, scope.inputs(owner).values())))
