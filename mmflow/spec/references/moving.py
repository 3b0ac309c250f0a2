"""Numbers that move, where they stand: limits of those that a path leads to, places where nothing can be learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo

from mmflow.plugin.component import Component, Shared, nested_models
from mmflow.plugin.kinds import Encoder, Loss, Score, Stage
from mmflow.plugin.numbers import BatchValue, Bounds, ByClock, Learned, Value
from mmflow.plugin.targets import Owner, Place
from mmflow.spec.components.entry import Entry
from mmflow.spec.references.resolver import Resolver


def check_moving(resolver: Resolver, entry: Entry, owner: Owner, made: Component) -> None:
    """Report numbers that cannot move as they say: a learned one outside a model, one out of its limits; and
    scores with weights that nothing trains."""
    for place, holder in nested_models(made):
        for name, info in type(holder).model_fields.items():
            at, value = (*place, info.alias or name), getattr(holder, name)
            if isinstance(value, Learned) and isinstance(made, Stage):
                hint = "write a number, or the path of one that a loss learns, such as losses.align.temperature"
                message = f"the stage {made.use} has no model of its own that could learn a number"
                resolver.report(entry, at, entry.problem(message, at, hint=hint))
            if isinstance(value, Score) and hasattr(value, "build") and isinstance(made, Stage):
                hint = "declare it under `parts`, let a loss train it, and write its path here: score: parts.NAME"
                message = f"the stage {made.use} has no model of its own that could train the score {value.use}"
                resolver.report(entry, at, entry.problem(message, at, hint=hint))
            if not isinstance(value, Shared):
                continue
            target = resolver.targets(owner).get(at)
            found = resolver.shared(target) if target is not None else None
            if isinstance(found, BatchValue) and not knows_the_batch(made, at):
                resolver.report(entry, at, entry.problem(of_the_batch(found), at, hint=NO_BATCH))
            elif isinstance(found, Value):
                _check_shared(resolver, entry, at, value, found, list(_marks(info)))


NO_BATCH = "write a number or a schedule"


def knows_the_batch(made: Component, place: Place) -> bool:
    """Whether a number of the batch may stand at that place of an entry."""
    return isinstance(made, Loss | Encoder) and len(place) == 1


def of_the_batch(part: BatchValue) -> str:
    return f"{part.use} is a number of the batch, which is known to losses and encoders alone"


def _check_shared(
    resolver: Resolver, entry: Entry, at: Place, path: Shared, found: Value, marks: list[Bounds | ByClock]
) -> None:
    for mark in marks:
        if isinstance(mark, ByClock):
            if isinstance(found, Learned):
                hint = "write a number or a schedule, such as {use: cosine}"
                problem = entry.problem(f"`{path}` is learned, and a learned number cannot stand here", at, hint=hint)
                resolver.report(entry, at, problem)
        elif (outside := mark.outside(found)) is not None:
            problem = entry.problem(f"`{path}` is out of range", at, found=outside, expected=mark.says())
            resolver.report(entry, at, problem)


def _marks(info: FieldInfo) -> Iterator[Bounds | ByClock]:
    yield from _of(info.metadata)
    yield from _inside(info.annotation)


def _inside(annotation: Any) -> Iterator[Bounds | ByClock]:
    yield from _of(getattr(annotation, "__metadata__", ()))
    for part in get_args(annotation):
        yield from _inside(part)


def _of(metadata: Any) -> Iterator[Bounds | ByClock]:
    yield from (one for one in metadata if isinstance(one, Bounds | ByClock))
