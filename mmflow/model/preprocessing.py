"""Learned preprocessing, such as vocabularies: what encoders learn from the data, or bring from another stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from mmflow.artifacts import ModelArtifact
from mmflow.data import ColumnRequest, read_field, scan
from mmflow.model.graph_builder import build_graph
from mmflow.plugin.component import ComponentError
from mmflow.plugin.failures import inside
from mmflow.plugin.kinds import Origin, Source, StageScope, Structure, View
from mmflow.plugin.streams import Streams
from mmflow.plugin.targets import Owner, Target
from mmflow.plugin.values import State
from mmflow.spec.references.views import ViewTypes, fields_of

LEARN_LIMIT = 200_000
"""Samples at most that `Encoder.learn` reads."""


def prepared_structures(scope: StageScope, roots: Sequence[Owner]) -> list[tuple[Structure, list[Owner]]]:
    """The structures of a graph that learn their preprocessing, each with the encoders that are built by it."""
    found: dict[Owner, tuple[Structure, list[Owner]]] = {}
    for node in build_graph(scope, roots).nodes.values():
        if node.role == "encoder":
            structure = scope.structure(node.owner)
            found.setdefault(structure.owner, (structure, []))[1].append(node.owner)
    return [(structure, applied) for structure, applied in found.values() if structure.encoder.learns()]


def not_learned(owner: Owner, stage: str | None = None) -> ComponentError:
    return ComponentError(
        f"the model{'' if stage is None else f' of {stage}'} has no {owner}: no loss of its training reads it, so it "
        "learned no vocabulary",
        hint="train it with a loss, or measure it with `model: init`",
    )  # fmt: skip


def learn(
    scope: StageScope, structure: Structure, applied: Sequence[Owner], source: Source | None, limit: int
) -> State:
    """The preprocessing that encoders with one structure learn from the data, of all inputs that they read."""
    inputs = [list(scope.inputs(owner).values()) for owner in applied]
    state: dict[str, Any] = {}
    for place in structure.encoder.learns():
        targets = dict.fromkeys(replace(targets[place], detach=False) for targets in inputs if place < len(targets))
        raw = [target.as_field for target in targets if target.section in ("fields", "views", "stages")]
        if not raw and all(target.section == "encoders" for target in targets):
            # Outputs of encoders are not preprocessed.
            continue
        if source is None or not raw:
            names = ", ".join(target.name for target in targets)
            raise ComponentError(f"{structure.owner} must learn from a field of the data, not from {names}")
        each = (_values(source, scope.views, target, limit) for target in raw)
        with inside(structure.owner, structure.encoder):
            learned = structure.encoder.learn(place, chain.from_iterable(each))
        if twice := [name for name in learned if name in state and state[name] != learned[name]]:
            raise ComponentError(
                f"{structure.owner} learns {', '.join(twice)} from two of its inputs, and one would replace the other",
                hint=f"let `learn` of {structure.encoder.use} return another name for each input",
            )
        state.update(learned)
    return state


def state_of(origin: Origin, upstream: Callable[[str], Path]) -> State:
    """The preprocessing that an encoder of another stage's model learned there."""
    states = ModelArtifact(upstream(origin.stage)).states()
    if str(origin.preparation) not in states:
        raise not_learned(origin.preparation, origin.stage)
    return states[str(origin.preparation)]


def _values(source: Source, views: Mapping[str, View], target: Target, limit: int) -> Iterator[Any]:
    """The values of a field or of a view's deterministic form in the first `limit` samples, group members apart.

    The copies of a view are alike in that form, and come once.
    """
    if isinstance(source, Streams):
        source = source.holding(fields_of(target, views))
    types = ViewTypes(views, source.fields())
    type_ = types.column(target)
    if "copy" in type_.axes:
        target = replace(target, index=0)
        type_ = types.column(target)
    depth = len(type_.axes) - 1
    if target.section == "fields" and type_.static:
        for value in source.open().static()[target.name]:
            yield from _members(value, depth)
        return
    if target.section == "fields":
        for value in read_field(source, target.name, limit=limit):
            yield from _members(value if target.index is None else value[target.index], depth)
        return
    count = 0
    for batch in scan(source, views, [ColumnRequest("value", target)], batch_size=64):
        for value in batch.columns["value"].values[: limit - count]:
            yield from _members(value, depth)
        count += batch.size
        if count >= limit:
            return


def _members(value: Any, depth: int) -> Iterator[Any]:
    if value is None:
        return
    if depth == 0:
        yield value
        return
    for member in value:
        yield from _members(member, depth - 1)
