"""Weights that stay in a set: as their modules say (the bounds of a learned number), or `constrain` of components."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property

import torch
from torch import nn

from mmflow.model.graph import Graph, Site
from mmflow.model.learned import Constrained
from mmflow.model.modules import Modules
from mmflow.plugin.component import Component, ComponentError, nested_components
from mmflow.plugin.kinds import Application, Constraint, StageScope, View
from mmflow.plugin.targets import Owner


class Constraining:
    """The parameters of a model that stay in a set, found when its modules are built."""

    def __init__(self, scope: StageScope, graph: Graph, modules: Modules) -> None:
        self.scope, self.graph, self.modules = scope, graph, modules

    @cached_property
    def held(self) -> dict[str, tuple[nn.Parameter, list[Constraint]]]:
        """The parameters with their constraints, by path. Raises `ComponentError` for a constraint of none."""
        found: dict[str, tuple[nn.Parameter, list[Constraint]]] = {}
        nodes = [node.owner for node in self.graph.nodes.values() if node.role in ("encoder", "loss")]
        for owner in (*nodes, *self.graph.parts):
            for path, parameter, constraint in self._of(owner, _constrained(self.scope, owner)):
                found.setdefault(path, (parameter, []))[1].append(constraint)
        return found

    def _of(self, owner: Owner, made: Component | View | None) -> Iterator[tuple[str, nn.Parameter, Constraint]]:
        for place, part in nested_components(made):
            path = Site(owner, place).path
            for constraint in getattr(part, "constrain", ()):
                there = {name.removeprefix(f"{path}."): parameter for name, parameter in self._parameters(path)}
                chosen = {name: p for name, p in there.items() if constraint.holds_for(name, p.ndim)}
                for name, parameter in chosen.items():
                    yield f"{path}.{name}", parameter, constraint
                if not chosen:
                    error = ComponentError(
                        f"`constrain: {constraint.use}` holds for no parameter of {path}",
                        found=", ".join(f"{name} {list(p.shape)}" for name, p in list(there.items())[:4]) or "none",
                        expected=f"one of {constraint.least_axes} or more axes that matches {constraint.match!r}",
                    )
                    error.owner = (*filter(None, owner), *map(str, place), "constrain")
                    raise error

    def _parameters(self, path: str) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters of a component's own module; where it has none, those of the modules inside it."""
        own = self.modules.at(path)
        for name, module in self.modules.modules():
            if name == path or (own is None and name.startswith(f"{path}.")):
                for inner, parameter in module.named_parameters():
                    yield f"{name}.{inner}", parameter

    @torch.no_grad()
    def project(self, moved: Collection[nn.Parameter] | None = None) -> None:
        """Put parameters back where they stay: those of `moved`, which a step has moved; all where None."""
        for _, module in self.modules.modules():
            if isinstance(module, Constrained):
                module.constrain()
        chosen = None if moved is None else set(map(id, moved))
        for parameter, constraints in self.held.values():
            if chosen is None or id(parameter) in chosen:
                for constraint in constraints:
                    parameter.copy_(constraint.project(parameter))


def _constrained(scope: StageScope, owner: Owner) -> Component | View | None:
    """The declaration that says where the weights of an entry stay; None where the weights are not its own to move."""
    made = scope.component(owner)
    if not isinstance(made, Application):
        return made
    if made.shares == "module" or not made.trains:
        return None
    # The weights of a copy are of equal structure, and so are the sets in which they stay.
    return made if made.constrain else scope.structure(owner).encoder
