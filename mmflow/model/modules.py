"""The modules of a graph: built once each, under the paths by which a spec names them.

`encoders.image` holds the body of that encoder, `encoders.image.head` its head, `losses.align.temperature` a
learned number. Weights are drawn at the address (seed, "weights", path), so neither the order of
construction nor another component changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from pathlib import Path

import torch
from torch import Tensor, nn

from mmflow.artifacts import ModelArtifact
from mmflow.model import lora
from mmflow.model.applications import Copy, Ema
from mmflow.model.graph import Graph, Site
from mmflow.model.learned import LearnedValue
from mmflow.model.starts import freezes, load_file
from mmflow.plugin.addresses import address
from mmflow.plugin.component import Component, ComponentError, nested_components
from mmflow.plugin.failures import building
from mmflow.plugin.kinds import Application, Encoder, Freeze, StageScope, View
from mmflow.plugin.numbers import Learned
from mmflow.plugin.targets import Owner, Target
from mmflow.plugin.values import State, TensorType

States = Mapping[str, State]
"""Learned preprocessing by the path of its encoder."""


class Modules:
    """Builds and finds the modules of one graph; `root` holds them all, without their paths."""

    def __init__(
        self, scope: StageScope, graph: Graph, *, seed: int, states: States,
        upstream: Callable[[str], Path] | None = None,
    ) -> None:  # fmt: skip
        self.scope, self.graph, self.seed, self.states, self.upstream = scope, graph, seed, states, upstream
        self.root = nn.ModuleList()
        self._own: dict[str, nn.Module] = {}
        self._begun: set[Owner] = set()
        self._adapted: set[str] = set()
        """Paths of modules with adapters inside."""
        self._beneath: set[str] = set()

    def build(self) -> nn.Module:
        """Build everything that the graph names; returns the root module."""
        nodes = self.graph.nodes.values()
        for node in nodes:
            if node.role == "encoder":
                with building(node.owner, node.structure):
                    self._encoder(node.owner)
            elif node.role in ("loss", "memory"):
                with building(node.owner, node.component):
                    self._inside(node.component, Site(node.owner), self._inputs(node.owner))
        for owner in self.graph.parts:
            self._inside(self.scope.component(owner), Site(owner))
        return self.root

    def at(self, path: str) -> nn.Module | None:
        return self._own.get(path)

    def paths(self) -> Collection[str]:
        """The paths of all modules."""
        return self._own.keys()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters under the paths of their modules: `encoders.image.blocks.0.mlp.weight`."""
        for path, module in self._own.items():
            for name, parameter in self._named(path, module):
                yield f"{path}.{name}", parameter

    def _named(self, path: str, module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters of a module of this model by their names inside it; adapted layers keep theirs."""
        return lora.named(module, adapted=path in self._adapted)

    def beneath_adapters(self) -> frozenset[str]:
        """Paths of the parameters that adapters stand in for: they do not train, whatever groups say."""
        return frozenset(self._beneath)

    def state_dict(self) -> dict[str, Tensor]:
        return {
            f"{path}.{name}": value
            for path, module in self._own.items()
            for name, value in lora.state(module, adapted=path in self._adapted).items()
        }

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the tensors that have a place here; raises where a shape differs."""
        for name, own in self.state_dict().items():
            if name not in tensors:
                continue
            if tensors[name].shape != own.shape:
                raise ComponentError(
                    f"stored weights of {name} do not fit",
                    found=str(tuple(tensors[name].shape)),
                    expected=str(tuple(own.shape)),
                )
            own.copy_(tensors[name])

    def learned_values(self) -> Iterator[tuple[str, LearnedValue]]:
        """Learned numbers with their paths (`losses.align.temperature`)."""
        for path, module in self._own.items():
            if isinstance(module, LearnedValue):
                yield path, module

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """All modules with their paths."""
        yield from self._own.items()

    def averaged(self) -> Iterator[tuple[str, Ema, nn.Module, nn.Module]]:
        """(path, `Ema` declaration, averaged module, module it follows), body and projections apart."""
        for node in self.graph.nodes.values():
            if isinstance(node.component, Ema) and node.role == "encoder":
                for path, own, followed in self._pairs(node.owner, self._source(node.owner)):
                    yield path, node.component, own, followed

    def follow(self, stored: Collection[str]) -> None:
        """After weights were loaded: copies without training that were not stored begin equal to their source."""
        for node in self.graph.nodes.values():
            made = node.component
            if node.role != "encoder" or not isinstance(made, Application) or made.shares == "module" or made.trains:
                continue
            if self._weights(node.owner).stage is not None or any(n.startswith(f"{node.owner}.") for n in stored):
                continue
            for _, own, other in self._pairs(node.owner, self._source(node.owner)):
                own.load_state_dict(other.state_dict())

    def _pairs(self, owner: Owner, source: Owner) -> Iterator[tuple[str, nn.Module, nn.Module]]:
        """(path, module of `owner`, the same module of `source`): body, projections, learned numbers."""
        for name, own in self.under(owner):
            if (other := self.at(f"{source}{name}")) is not None:
                yield f"{owner}{name}", own, other

    def weights_of(self, target: Target) -> dict[str, nn.Parameter]:
        """The parameters of an entry, or of a component in one of its fields, by their names inside it."""
        owner = self.scope.module(target.owner) if target.section == "encoders" else target.owner
        path = ".".join((str(owner), *target.field))
        named = self.named_parameters()
        found = {name.removeprefix(f"{path}."): each for name, each in named if name.startswith(f"{path}.")}
        if not found:
            raise ComponentError(f"{path} has no parameters", hint="name an encoder or a component with weights")
        return found

    def under(self, owner: Owner) -> list[tuple[str, nn.Module]]:
        """The names of an entry's own modules behind its path (empty for a body), each with the module."""
        path = str(owner)
        return [(n.removeprefix(path), m) for n, m in self._own.items() if n == path or n.startswith(f"{path}.")]

    def _weights(self, owner: Owner) -> Target:
        return self.scope.targets(owner)["weights",]

    def _source(self, owner: Owner) -> Owner:
        """The encoder whose module an application takes its weights from."""
        return self.scope.module(self._weights(owner).owner)

    def _encoder(self, owner: Owner) -> None:
        owner = self.scope.module(owner)
        if owner in self._begun:
            return
        self._begun.add(owner)
        component = self.scope.component(owner)
        assert isinstance(component, Encoder)
        if not isinstance(component, Application):
            made = self.scope.structure(owner).encoder
            self._construct(owner, made, self._inputs(owner), self.states.get(str(owner), {}))
            self._load_files(owner, component)
            self._adapt(owner)
            self._freeze(owner, component)
        elif self._weights(owner).stage is not None:
            self._taken(owner, component)
        else:
            source = self._source(owner)
            self._encoder(source)
            self._apply(owner, component, source)

    def _inputs(self, owner: Owner) -> tuple[TensorType, ...]:
        return tuple(map(self.scope.type_of, self.scope.inputs(owner).values()))

    def _apply(self, owner: Owner, component: Application, source: Owner) -> None:
        """Build the module of an application from another encoder of this stage."""
        if isinstance(component, Copy):
            structure = self.scope.structure(owner)
            self._construct(owner, structure.encoder, self._inputs(owner), self.states.get(str(structure.owner), {}))
            self._adapt(owner)
            self._freeze(owner, component)
            if component.start == "equal":
                for path, _, _ in self._pairs(owner, source):
                    self._take_over(path, f"{source}{path.removeprefix(str(owner))}")
            return
        for name, other in self.under(source):
            self._attach(f"{owner}{name}", deepcopy(other).requires_grad_(False))

    @torch.no_grad()
    def _take_over(self, path: str, other: str) -> None:
        """Give a module the values of another one of equal structure; adapters that only it has stay as they are."""
        values = lora.state(self._own[other], adapted=other in self._adapted)
        for name, own in lora.state(self._own[path], adapted=path in self._adapted).items():
            if name in values:
                own.copy_(values[name])

    def _taken(self, owner: Owner, component: Application) -> None:
        """Build the module of an application as another stage's model has it, with the weights stored there."""
        structure = self.scope.structure(owner)
        origin = structure.origin
        own = isinstance(component, Copy) and component.start == "own"
        untrained = origin is not None and not origin.trained
        drawn = origin.module if origin is not None and untrained and not own else None
        state = self.states.get(str(structure.owner), {})
        self._construct(owner, structure.encoder, self._inputs(owner), state, drawn)
        if drawn is not None:
            self._load_files(owner, structure.encoder)
        self._adapt(owner, drawn)
        if component.trains:
            self._freeze(owner, component)
        else:
            for _, module in self.under(owner):
                module.requires_grad_(False)
        if self.upstream is None or origin is None or untrained or own:
            return
        stored = ModelArtifact(self.upstream(origin.stage)).weights()
        source = f"{origin.module}."
        renamed = {f"{owner}.{n.removeprefix(source)}": v for n, v in stored.items() if n.startswith(source)}
        if not renamed:
            raise ComponentError(f"{owner}: the model of {origin.stage} has no weights of {origin.module}")
        self.load(renamed)

    def _construct(
        self, owner: Owner, component: Encoder, inputs: tuple[TensorType, ...], state: State,
        drawn: Owner | None = None,
    ) -> None:  # fmt: skip
        """Build the module of an encoder and its projections, with weights drawn at its own address, or at `drawn`."""
        declared = component.outputs(*inputs)
        if component.has_weights:
            with _drawing(self.seed, str(drawn or owner)):
                self._attach(str(owner), component.build(*inputs, state=state))
        for part, projection, output in (("head", component.head, "pooled"), ("tokens", component.tokens, "tokens")):
            if projection is None:
                continue
            if output not in declared:
                raise ComponentError(f"{owner} has no output {output!r} for its {part} to project")
            if not projection.has_weights:
                continue
            path = str(owner._replace(part=part))
            with _drawing(self.seed, str((drawn or owner)._replace(part=part))):
                self._attach(path, projection.build(declared[output], state={}))
        # Projections are inside the component, and so are their learned numbers.
        self._learned(component, Site(owner))

    def _attach(self, path: str, module: nn.Module) -> None:
        self._own[path] = module
        if lora.is_adapted(module):
            self._adapted.add(path)
        self.root.append(module)

    def _inside(self, component: Component | View | None, site: Site, inputs: tuple[TensorType, ...] = ()) -> None:
        """Modules of a component that is no encoder node: its own, its sub-components', its learned numbers.

        A `build(*inputs)` receives the declared types of the inputs of the loss or memory that it belongs to.
        """
        for place, part in nested_components(component):
            path = site.at(*place).path
            build = getattr(part, "build", None)
            if path in self._own or isinstance(part, Learned) or build is None:
                continue
            if isinstance(part, Encoder) and not part.has_weights:
                continue
            with _drawing(self.seed, path):
                kinds = inputs if _asks_for_types(build) else ()
                self._attach(path, build(*kinds, state={}) if isinstance(part, Encoder) else build(*kinds))
        self._learned(component, site)

    def _learned(self, component: Component | View | None, site: Site) -> None:
        for place, part in nested_components(component):
            path = site.at(*place).path
            if isinstance(part, Learned) and path not in self._own:
                self._attach(path, LearnedValue(part.init, part.min, part.max, exponential=part.exponential))

    def _load_files(self, owner: Owner, component: Encoder) -> None:
        """First weights from files, as the stage says it for the encoder and for each projection."""
        for part, made in _parts(component).items():
            module = self.at(f"{owner}{part}")
            if made is not None and made.init is not None and module is not None:
                load_file(module, made.init, says=str(owner))

    def _adapt(self, owner: Owner, drawn: Owner | None = None) -> None:
        """Put in the adapters of an encoder and its projections, drawn at its own address, or at `drawn`."""
        for part, made in _parts(self.scope.structure(owner).encoder).items():
            module = self.at(f"{owner}{part}")
            if made is not None and made.lora is not None and module is not None:
                with _drawing(self.seed, f"{drawn or owner}{part}.lora"):
                    lora.adapt(module, made.lora, says=f"{owner}{part}")
                self._adapted.add(f"{owner}{part}")

    def _freeze(self, owner: Owner, component: Encoder) -> None:
        """Stop what `freeze` says of the encoder and of each projection, and what adapters stand in for."""
        declared, built = _parts(component), _parts(self.scope.structure(owner).encoder)
        projected = tuple(f"{part}." for part in (".head", ".tokens") if self.at(f"{owner}{part}") is not None)
        for name, module in self.under(owner):
            for inner, parameter in self._named(f"{owner}{name}", module):
                path = f"{name}.{inner}"
                for part, made in declared.items():
                    # A projection has none of its own.
                    own, projections = path.removeprefix(part), () if part else projected
                    if made is None or not path.startswith(f"{part}.") or lora.is_adapter(inner):
                        continue
                    base = built[part]
                    if base is not None and base.lora is not None and not own.startswith(projections):
                        trains = isinstance(made.freeze, Freeze) and made.freeze.excepts(own.removeprefix("."))
                        self._beneath |= set() if trains else {f"{owner}{path}"}
                        parameter.requires_grad_(trains)
                    elif freezes(made, own, projections):
                        parameter.requires_grad_(False)


def _asks_for_types(build: Callable[..., nn.Module]) -> bool:
    return any(p.kind is p.VAR_POSITIONAL for p in signature(build).parameters.values())


def _parts(component: Encoder) -> dict[str, Encoder | None]:
    """An encoder and its projections, by their place under its path."""
    return {"": component, ".head": component.head, ".tokens": component.tokens}


@contextmanager
def _drawing(seed: int, path: str) -> Iterator[None]:
    """Draw from the global generator at an address, and leave its state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(seed, "weights", path))
        yield
