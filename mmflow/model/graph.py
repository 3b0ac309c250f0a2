"""The graph of a stage: nodes, what each reads, their scopes and the waves in which a step runs them.

Torch-free, so that `check` can tell what a step keeps whole. A node is *row* (a row's output depends on that
row alone) or *batch* (it needs the whole batch). The wave of a row node comes one after that of any batch
node it reads; batch nodes run at the end of the latest wave they read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from mmflow.model.applications import Application
from mmflow.plugin.component import Component, ComponentError, Shared
from mmflow.plugin.kinds import Encoder, Loss, Memory, Score
from mmflow.plugin.references import Encoded, RefType, reference_fields
from mmflow.plugin.values import TensorType
from mmflow.spec.target import Target

Role = Literal["encoder", "head", "tokens", "loss", "memory"]
Output = tuple[str, str]
"""A node's owner path and the name of one of its outputs."""


@dataclass(frozen=True)
class Read:
    """One reference of a node: where it stands, where it leads, and the outputs that it takes from there."""

    path: str
    target: Any
    types: tuple[type[RefType], ...]
    outputs: tuple[Output, ...]
    after: bool = False

    @property
    def whole(self) -> bool:
        """True where the reader takes an `Encoding` with everything it needs, not one tensor."""
        return Encoded in self.types and self.target.output is None and self.target.section == "encoders"


@dataclass(frozen=True)
class Node:
    """One application of a component in the graph."""

    owner: str
    component: Component
    role: Role
    reads: tuple[Read, ...]
    scope: Literal["row", "batch"]
    wave: int
    module: str
    """Path of the module that runs it, which is another node's where weights are shared."""
    structure: Component
    """The component whose `build` made that module."""
    static: bool = False
    trains: bool = True


@dataclass
class Graph:
    """Nodes in an order in which each comes after what it reads."""

    nodes: dict[str, Node] = field(default_factory=dict)
    leaves: dict[str, Any] = field(default_factory=dict)
    """Column key -> (target, encoder path or "", place in `of`) of what the loader must give."""
    parts: list[str] = field(default_factory=list)
    """Owners of entries that are used through others only, and may have weights."""

    @cached_property
    def waves(self) -> int:
        return 1 + max((n.wave for n in self.nodes.values()), default=0)

    def at(self, wave: int, scope: str) -> list[Node]:
        return [n for n in self.nodes.values() if n.wave == wave and n.scope == scope]

    @cached_property
    def kept(self) -> frozenset[Output]:
        """Outputs that are held for the whole batch: read by a batch node or in a later wave."""
        held: set[Output] = set()
        for reader in self.nodes.values():
            for read in reader.reads:
                for owner, name in read.outputs:
                    producer = self.nodes.get(owner)
                    if producer is None or (producer.role == "memory" and not read.after):
                        continue
                    crosses = reader.wave > producer.wave
                    if crosses or (producer.scope == "row" and reader.scope == "batch"):
                        held.add((owner, name))
        return frozenset(held)

    @cached_property
    def taps(self) -> dict[str, tuple[str, ...]]:
        """Taps that are read, by encoder: its `forward` is asked for these and no others."""
        asked: dict[str, dict[str, None]] = {}
        for reader in self.nodes.values():
            for read in reader.reads:
                for owner, name in read.outputs:
                    node = self.nodes.get(owner)
                    if node is not None and isinstance(node.structure, Encoder) and name in node.structure.taps():
                        asked.setdefault(owner, {})[name] = None
        return {owner: tuple(names) for owner, names in asked.items()}

    def draws(self) -> Iterator[str]:
        """Owners in which dropout (or another draw of the model) makes `micro_batch_size` part of the result."""
        for node in self.nodes.values():
            if node.role == "encoder" and getattr(node.structure, "dropout", 0):
                yield node.owner


def build_graph(scope: Any, roots: Iterable[str]) -> Graph:
    """The graph that the entries `roots` (`encoders.image`, `losses.align`, `memories.queue`) need."""
    graph = Graph()
    for owner in scope.reach(*roots):
        section, _, name = owner.partition(".")
        if section == "parts":
            graph.parts.append(owner)
        elif section == "encoders":
            _add_encoder(graph, scope, owner, scope.encoders[name])
        elif section == "losses":
            _add(graph, scope, owner, scope.losses[name], "loss", _reads(graph, scope, owner, scope.losses[name]))
        elif section == "memories":
            _add(graph, scope, owner, scope.memories[name], "memory", _reads(graph, scope, owner, scope.memories[name]))
    return graph


def structure_of(scope: Any, owner: str) -> tuple[str, Encoder]:
    """Follow `weights` to the encoder that is built: its owner and declaration."""
    seen = [owner]
    component = entry(scope, owner)
    while isinstance(component, Application):
        target = scope.targets(seen[-1])["weights"]
        seen.append(f"{target.section}.{target.name}")
        component = entry(scope, seen[-1])
    return seen[-1], component


def module_owner(scope: Any, owner: str) -> str:
    """The entry whose module runs `owner`: itself, or what `same` points to."""
    component = entry(scope, owner)
    while isinstance(component, Application) and component.use == "same":
        target = scope.targets(owner)["weights"]
        owner = f"{target.section}.{target.name}"
        component = entry(scope, owner)
    return owner


def entry(scope: Any, owner: str) -> Any:
    """The declaration behind an owner's path; `stage` is the stage itself."""
    if owner == "stage":
        return scope.declaration
    section, _, name = owner.partition(".")
    return getattr(scope, section)[name]


def inputs_of(scope: Any, owner: str) -> list[tuple[str, Any]]:
    """Paths and targets of an encoder's `of`; an application without `of` reads what its structure reads."""
    while True:
        found = [(path, t) for path, t in scope.targets(owner).items() if path == "of" or path.startswith("of.")]
        if found or not isinstance(entry(scope, owner), Application):
            return found
        target = scope.targets(owner)["weights"]
        owner = f"{target.section}.{target.name}"


def _add_encoder(graph: Graph, scope: Any, owner: str, component: Encoder) -> None:
    base = structure_of(scope, owner)[1]
    module = module_owner(scope, owner)
    trains = not _averaged(scope, owner)
    reads = _reads(graph, scope, owner, component)
    _add(graph, scope, owner, component, "encoder", reads, module=module, structure=base, trains=trains)
    projections: tuple[tuple[Role, Encoder | None, str], ...] = (
        ("head", base.head, "pooled"),
        ("tokens", base.tokens, "tokens"),
    )
    for role, projection, output in projections:
        if projection is not None:
            target = Target("encoders", owner.partition(".")[2])
            read = Read("of.0", target, (), ((owner, output),))
            _add(
                graph,
                scope,
                f"{owner}.{role}",
                projection,
                role,
                (read,),
                module=f"{module}.{role}",
                structure=projection,
                trains=trains,
            )


def _averaged(scope: Any, owner: str) -> bool:
    while isinstance(component := entry(scope, owner), Application):
        if component.use in ("ema", "frozen"):
            return True
        if component.use == "copy":
            return False
        target = scope.targets(owner)["weights"]
        owner = f"{target.section}.{target.name}"
    return False


def _add(
    graph: Graph, scope: Any, owner: str, component: Component, role: Role, reads: tuple[Read, ...],
    *, module: str = "", structure: Component | None = None, trains: bool = True,
) -> None:  # fmt: skip
    structure = structure or component
    static = role in ("encoder", "head", "tokens") and bool(reads) and all(_static(graph, scope, r) for r in reads)
    if isinstance(structure, Memory) or static:
        node_scope = "batch"
    else:
        assert isinstance(structure, (Encoder, Loss))
        node_scope = structure.scope()
    wave = 0
    for read in reads:
        for producer_owner, _ in read.outputs:
            producer = graph.nodes.get(producer_owner)
            if producer is None or (producer.role == "memory" and not read.after):
                continue
            wave = max(wave, producer.wave + (node_scope == "row" and producer.scope == "batch"))
    graph.nodes[owner] = Node(
        owner, component, role, reads, node_scope, wave, module or owner, structure, static, trains
    )


def _static(graph: Graph, scope: Any, read: Read) -> bool:
    producers = [graph.nodes.get(owner) for owner, _ in read.outputs]
    if any(p is not None for p in producers):
        return all(p is not None and p.static for p in producers)
    declared: TensorType = scope.type_of(read.target)
    return declared.static


def _reads(graph: Graph, scope: Any, owner: str, component: Component) -> tuple[Read, ...]:
    types = reference_fields(type(component))
    targets = dict(scope.targets(owner))
    if isinstance(component, Application):
        targets.pop("weights", None)
        targets = {**dict(inputs_of(scope, owner)), **targets}
    reads = []
    for path, target in targets.items():
        name = path.partition(".")[0]
        if target.section in ("encoders", "memories", "fields", "views", "sampler") and name in types:
            outputs = _outputs(graph, scope, owner, component, path, target, types[name])
            reads.append(Read(path, target, types[name], outputs, after=target.after))
    return tuple(reads)


def _outputs(
    graph: Graph, scope: Any, owner: str, component: Component, path: str, target: Any, types: tuple[type[RefType], ...]
) -> tuple[Output, ...]:
    if target.section == "encoders":
        source = f"encoders.{target.name}"
        if target.stage is not None:
            raise ComponentError(
                f"{owner} reads {target.stage}.{target.name}, the encoder of another stage's model",
                hint=f"declare it as an encoder of its own: {{use: frozen, weights: {target.stage}.{target.name}}}",
            )
        if target.output is not None:
            return (face(graph, source, target.output),)
        if Encoded in types:
            return tuple(face(graph, source, name) for name in needed_outputs(scope, owner, component))
        return (face(graph, source, "pooled"),)
    if target.section == "memories":
        return ((f"memories.{target.name}", target.output or "value"),)
    if owner.startswith("losses.") and (ids := _ids_column(graph, scope, owner, target)) is not None:
        return ((ids, "value"),)
    key = column_key(scope, owner, path, target)
    encoder = structure_of(scope, owner)[0] if owner.startswith("encoders.") else ""
    # The column is the whole field or view; which copy is read is the reader's business.
    whole = replace(target, index=None, detach=False)
    graph.leaves[key] = (whole, encoder, int(path.partition(".")[2] or 0) if encoder else 0)
    return ((key, "value"),)


def _ids_column(graph: Graph, scope: Any, owner: str, target: Any) -> str | None:
    """The column of a text that a loss reads: in the form of the nearest encoder below the loss that reads it too."""
    if target.section == "sampler" or scope.type_of(target).modality != "text":
        return None
    below = [f"encoders.{t.name}" for t in scope.targets(owner).values() if t.section == "encoders"]
    for encoder in below:
        node = graph.nodes.get(encoder)
        for source in [source for read in node.reads for source, _ in read.outputs] if node is not None else []:
            if source in graph.leaves and graph.leaves[source][0] == replace(target, index=None, detach=False):
                return source
            if source not in below:
                below.append(source)
    return None


def column_key(scope: Any, owner: str, path: str, target: Any) -> str:
    """The batch column behind a reference to a field or view: one for each way it is preprocessed."""
    parts = [target.section, target.name, *([target.output] if target.output else [])]
    source = ".".join(parts)
    if not owner.startswith("encoders."):
        return source
    return f"{source}>{structure_of(scope, owner)[0]}#{path.partition('.')[2] or 0}"


def face(graph: Graph, encoder: str, output: str) -> Output:
    """Which node gives an encoder's output: its body, or the projection that stands behind it."""
    if output == "pooled" and f"{encoder}.head" in graph.nodes:
        return (f"{encoder}.head", "pooled")
    if output == "tokens" and f"{encoder}.tokens" in graph.nodes:
        return (f"{encoder}.tokens", "pooled")
    if output == "features":
        return (encoder, "pooled")
    return (encoder, output)


def needed_outputs(scope: Any, owner: str, component: Component) -> tuple[str, ...]:
    """Outputs that a component reads of a whole encoding: what its scores need, else `pooled`."""
    needs: list[str] = []
    for name in type(component).model_fields:
        value = getattr(component, name)
        if isinstance(value, Shared):
            target = scope.targets(owner).get(name)
            value = (
                entry(scope, f"{target.section}.{target.name}") if target is not None and not target.output else value
            )
        if isinstance(value, Score):
            needs += value.needs
    return tuple(dict.fromkeys(needs or component.needs or ("pooled",)))


def nested(component: Component, path: str) -> Iterator[tuple[str, Component]]:
    """A component and all components inside its fields, with their paths."""
    yield path, component
    for name in type(component).model_fields:
        yield from _nested_value(getattr(component, name), f"{path}.{name}")


def _nested_value(value: Any, path: str) -> Iterator[tuple[str, Component]]:
    if isinstance(value, Component):
        yield from nested(value, path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _nested_value(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _nested_value(item, f"{path}.{index}")
