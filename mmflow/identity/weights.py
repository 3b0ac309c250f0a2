"""Where the weights of a stage come from: which stages on the chain of models have made them, and whether some are
drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from mmflow.plugin.component import Component, nested_components
from mmflow.plugin.kinds import Application, Encoder
from mmflow.plugin.targets import Owner

if TYPE_CHECKING:
    from mmflow.spec import Scope, Spec


class Weights:
    """The weights of one spec's stages. `named` gives the stage behind the name of a last iteration."""

    def __init__(self, spec: Spec, named: Callable[[str], str]) -> None:
        self._spec, self._named = spec, named

    def changed_by(self, scope: Scope, owners: Iterable[Owner]) -> str | None:
        """The newest stage on the chain of models that can have changed the weights of `owners`."""
        weights = frozenset(filter(_may_have_weights, owners))
        later: str | None = None
        while (stage := scope.start or scope.model) is not None:
            stage = self._named(stage)
            if not all(map(scope.wiring.takes, weights)):
                # What a stage does not take over begins again there.
                return later or stage
            reached = self._trained.get(stage)
            # A stage of another type may have changed anything.
            if reached is None or not reached.isdisjoint(weights):
                return stage
            later, scope = stage, self._spec.scope(stage)
        return None

    def drawn(self, scope: Scope, owners: Iterable[Owner], at: str | None = None) -> bool:
        """Whether one of `owners` draws, for itself or weights that no stage on the chain of models has made.

        With `at` the weights are those of that stage's own model, and `scope` is its view.
        """
        drawing: set[Owner] = set()
        for owner in filter(_may_have_weights, owners):
            made = scope.component(owner)
            if isinstance(made, Component) and "generator" in made.arguments():
                return True
            brought = owner.section == "encoders" and scope.structure(owner).origin is not None
            if made is not None and not brought and any(_builds(part) for _, part in nested_components(made)):
                drawing.add(owner)
        if at is not None:
            drawing -= self._trained.get(at, frozenset(drawing))
        while drawing and (stage := scope.start or scope.model) is not None:
            stage = self._named(stage)
            # A stage of another type may have made anything.
            made_there = self._trained.get(stage, frozenset(drawing))
            drawing = {owner for owner in drawing if owner not in made_there or not scope.wiring.takes(owner)}
            scope = self._spec.scope(stage)
        return bool(drawing)

    @cached_property
    def _trained(self) -> dict[str, frozenset[Owner]]:
        """The entries that each stage that trains reaches, and so may change."""
        return {
            name: frozenset(self._spec.scope(name).reached())
            for name, stage in self._spec.stages.items()
            if stage.trains
        }


def _may_have_weights(owner: Owner) -> bool:
    return owner.section not in ("views", "fields")


def _builds(part: Component) -> bool:
    """Whether a component has weights that are drawn at the start; a learned number begins where it is said to."""
    if isinstance(part, Encoder):
        return part.has_weights or isinstance(part, Application)
    return getattr(part, "build", None) is not None and part.kind not in ("value", "optimizer")
