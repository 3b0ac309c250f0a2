"""The plan of a run: its stages in the order in which they can work, each with its key. Torch-free."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmflow.identity.keys import Keys
from mmflow.plugin.component import ComponentError

if TYPE_CHECKING:
    from mmflow.flow.store import RunStore
    from mmflow.plugin.kinds import Stage
    from mmflow.spec import Spec


@dataclass(frozen=True)
class PlannedStage:
    """A stage, the key of its results, the stages that it reads, and whether its results are stored."""

    name: str
    declaration: Stage
    key: str
    inputs: tuple[str, ...]
    cached: bool


@dataclass(frozen=True)
class Plan:
    """Stages in an order in which each comes after those that it reads."""

    stages: tuple[PlannedStage, ...]
    keys: Keys

    def __iter__(self) -> Iterator[PlannedStage]:
        return iter(self.stages)

    def __getitem__(self, name: str) -> PlannedStage:
        return next(stage for stage in self.stages if stage.name == name)

    def equal(self) -> dict[str, str]:
        """Stages that are the very same as an earlier one, whose results they share, with that stage."""
        first: dict[str, str] = {}
        found = {stage.name: first.setdefault(stage.key, stage.name) for stage in self.stages}
        return {name: other for name, other in found.items() if name != other}

    def following(self, names: Collection[str]) -> tuple[str, ...]:
        """`names` and every stage that reads one of them, directly or through others."""
        found = set(names)
        for stage in self.stages:
            if found & set(stage.inputs):
                found.add(stage.name)
        return tuple(stage.name for stage in self.stages if stage.name in found)


def build_plan(spec: Spec, store: RunStore | None = None) -> Plan:
    """The plan of `spec`; with a `store`, stages whose results are stored there are marked as cached.

    Raises `ComponentError` where a source cannot be read or stages read each other in a circle.
    """
    keys = Keys(spec)
    inputs = {name: keys.upstream(name) for name in spec.stages}
    order: dict[str, None] = {}
    while len(order) < len(inputs):
        ready = next((name for name in inputs if name not in order and order.keys() >= set(inputs[name])), None)
        if ready is None:
            circle = ", ".join(name for name in inputs if name not in order)
            raise ComponentError(
                f"stages read each other in a circle: {circle}", hint="change their `start` or `model`"
            )
        order[ready] = None
    stages = []
    for name in order:
        key = keys.stage(name)
        cached = store.has(key) if store is not None else False
        stages.append(PlannedStage(name, spec.stages[name], key, inputs[name], cached))
    return Plan(tuple(stages), keys)
