"""The modules of a graph: built once each, under the paths by which a spec names them.

`encoders.image` holds the body of that encoder, `encoders.image.head` its head, `losses.align.temperature` a
learned number. Weights are drawn at the address (seed, "weights", path), so neither the order of
construction nor another component changes them.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmflow.artifacts import ModelArtifact
from mmflow.model.applications import Application, Copy
from mmflow.model.graph import Graph, entry, inputs_of, nested, structure_of
from mmflow.model.learned import LearnedValue
from mmflow.plugin.addresses import address
from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.kinds import Encoder, Freeze
from mmflow.plugin.numbers import Learned
from mmflow.plugin.values import TensorType

PROJECTIONS = ("", ".head", ".tokens")
"""What is appended to an encoder's path: its body, its head, its projection of tokens."""


class Modules:
    """Builds and finds the modules of one graph; `root` holds them all, without their paths."""

    def __init__(
        self, scope: Any, graph: Graph, *, seed: int, states: Mapping[str, Mapping[str, Any]],
        upstream: Callable[[str], Path] | None = None,
    ) -> None:  # fmt: skip
        self.scope, self.graph, self.seed, self.states, self.upstream = scope, graph, seed, states, upstream
        self.root = nn.ModuleList()
        self._own: dict[str, nn.Module] = {}
        self._begun: set[str] = set()

    def build(self) -> nn.Module:
        """Build everything that the graph names; returns the root module."""
        for node in self.graph.nodes.values():
            if node.role == "encoder":
                self._encoder(node.owner)
            elif node.role in ("loss", "memory"):
                self._inside(node.component, node.owner)
        for owner in self.graph.parts:
            self._inside(entry(self.scope, owner), owner)
        for node in self.graph.nodes.values():
            if node.role == "encoder":
                self._learned(node.component, node.owner)
        return self.root

    def at(self, path: str) -> nn.Module | None:
        return self._own.get(path)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters under the paths of their modules: `encoders.image.blocks.0.mlp.weight`."""
        for path, module in self._own.items():
            for name, parameter in module.named_parameters():
                yield f"{path}.{name}", parameter

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{path}.{n}": v for path, module in self._own.items() for n, v in module.state_dict().items()}

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

    def averaged(self) -> Iterator[tuple[str, Any, nn.Module, nn.Module]]:
        """(path, `Ema` declaration, averaged module, module it follows), body and projections apart."""
        for node in self.graph.nodes.values():
            component = node.component
            if node.role == "encoder" and component.use == "ema":
                target = self.scope.targets(node.owner)["weights"]
                source = f"{target.section}.{target.name}"
                for suffix in PROJECTIONS:
                    if (own := self.at(node.owner + suffix)) is not None:
                        followed = self.at(self._source(source) + suffix)
                        assert followed is not None
                        yield node.owner + suffix, component, own, followed

    def _source(self, owner: str) -> str:
        while isinstance(component := entry(self.scope, owner), Application) and component.use == "same":
            target = self.scope.targets(owner)["weights"]
            owner = f"{target.section}.{target.name}"
        return owner

    def _encoder(self, owner: str) -> None:
        owner = self._source(owner)
        if owner in self._begun:
            return
        self._begun.add(owner)
        component = entry(self.scope, owner)
        if isinstance(component, Application):
            target = self.scope.targets(owner)["weights"]
            source = self._source(f"{target.section}.{target.name}")
            self._encoder(source)
            self._apply(owner, component, source, target)
            return
        inputs = tuple(self.scope.type_of(t) for _, t in inputs_of(self.scope, owner))
        self._construct(owner, component, inputs, self.states.get(owner, {}))
        self._start(owner, component)

    def _apply(self, owner: str, component: Application, source: str, target: Any) -> None:
        structure, base = structure_of(self.scope, owner)
        if isinstance(component, Copy):
            inputs = tuple(self.scope.type_of(t) for _, t in inputs_of(self.scope, owner))
            self._construct(owner, base, inputs, self.states.get(structure, {}))
            if component.start == "equal":
                for suffix in PROJECTIONS:
                    if (own := self.at(owner + suffix)) is not None and (other := self.at(source + suffix)) is not None:
                        own.load_state_dict(other.state_dict())
            return
        for suffix in PROJECTIONS:
            if (other := self.at(source + suffix)) is not None:
                self._attach(owner + suffix, deepcopy(other).requires_grad_(False))
        if target.stage is not None:
            self._take(owner, f"encoders.{target.name}", target.stage)

    def _take(self, owner: str, source: str, stage: str) -> None:
        """Give `owner` the weights that another stage's model holds under `source`."""
        if self.upstream is None:
            return
        stored = ModelArtifact(self.upstream(stage)).weights()
        renamed = {owner + n.removeprefix(source): v for n, v in stored.items() if n.startswith(f"{source}.")}
        if not renamed:
            raise ComponentError(f"{owner}: the model of {stage} has no weights of {source}")
        self.load(renamed)

    def follow(self, stored: Collection[str]) -> None:
        """After weights were loaded: averaged and frozen copies that were not stored begin equal to their source."""
        for node in self.graph.nodes.values():
            if node.role != "encoder" or node.component.use not in ("ema", "frozen"):
                continue
            target = self.scope.targets(node.owner)["weights"]
            if target.stage is not None or any(name.startswith(f"{node.owner}.") for name in stored):
                continue
            source = self._source(f"{target.section}.{target.name}")
            for suffix in PROJECTIONS:
                if (own := self.at(node.owner + suffix)) is not None and (
                    other := self.at(source + suffix)
                ) is not None:
                    own.load_state_dict(other.state_dict())

    def _construct(
        self, owner: str, component: Encoder, inputs: tuple[TensorType, ...], state: Mapping[str, Any]
    ) -> None:
        declared = component.outputs(*inputs)
        if component.has_weights:
            with _drawing(self.seed, owner):
                self._attach(owner, component.build(*inputs, state=state))
        for suffix, projection, output in (
            (".head", component.head, "pooled"),
            (".tokens", component.tokens, "tokens"),
        ):
            if projection is None:
                continue
            if output not in declared:
                raise ComponentError(f"{owner} has no output {output!r} for its {suffix[1:]} to project")
            if not projection.has_weights:
                continue
            with _drawing(self.seed, owner + suffix):
                self._attach(owner + suffix, projection.build(declared[output], state={}))

    def _attach(self, path: str, module: nn.Module) -> None:
        self._own[path] = module
        self.root.append(module)

    def _inside(self, component: Component, owner: str) -> None:
        """Modules of a component that is no encoder node: its own, its sub-components', its learned numbers."""
        for path, part in nested(component, owner):
            build = getattr(part, "build", None)
            if path in self._own or isinstance(part, Learned) or build is None:
                continue
            if isinstance(part, Encoder) and not part.has_weights:
                continue
            with _drawing(self.seed, path):
                self._attach(path, build(state={}) if isinstance(part, Encoder) else build())
        self._learned(component, owner)

    def _learned(self, component: Component, owner: str) -> None:
        for path, part in nested(component, owner):
            if isinstance(part, Learned) and path not in self._own:
                self._attach(path, LearnedValue(part.init, part.min, part.max, exponential=part.exponential))

    def _start(self, owner: str, component: Encoder) -> None:
        module = self.at(owner)
        if module is None:
            return
        if component.init is not None:
            _load_into(module, component.init, owner)
        if component.freeze:
            patterns = component.freeze.but if isinstance(component.freeze, Freeze) else ()
            for name, parameter in module.named_parameters():
                if not any(fnmatch.fnmatchcase(name, p) for p in patterns):
                    parameter.requires_grad_(False)


class _drawing:
    """Draw from the global generator at an address, and leave its state as it was."""

    def __init__(self, seed: int, path: str) -> None:
        self.seed = address(seed, "weights", path)
        self.fork = torch.random.fork_rng(devices=[])

    def __enter__(self) -> None:
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: Any) -> None:
        self.fork.__exit__(*error)


def _load_into(module: nn.Module, url: str, owner: str) -> None:
    import fsspec
    from safetensors.torch import load

    try:
        with fsspec.open(url, "rb") as file:
            tensors = load(file.read())  # type: ignore[attr-defined]
    except Exception as error:
        raise ComponentError(
            f"{owner}: cannot read the weights {url}: {error}", hint="give a safetensors file on any fsspec URL"
        ) from error
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ComponentError(f"{owner}: the weights {url} do not fit: {error}") from error
    if unexpected or len(missing) == len(module.state_dict()):
        raise ComponentError(
            f"{owner}: the weights {url} do not fit",
            found=f"{len(unexpected)} unknown names such as {', '.join(list(unexpected)[:3]) or '(none)'}",
            expected=f"names such as {', '.join(list(module.state_dict())[:3])}",
        )
