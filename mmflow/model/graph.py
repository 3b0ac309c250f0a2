"""The graph of a stage: nodes, their inputs, their scopes and the waves in which a step runs them.

Torch-free, so that `check` can tell which outputs a step keeps whole. A node is *row* (a row's output depends on that
row alone) or *batch* (it needs the whole batch). The wave of a row node comes one after that of any batch
node it reads; batch nodes run at the end of the latest wave they read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple

from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.kinds import Application, Encoder, Loss, Memory, Scope, Score, StageScope
from mmflow.plugin.references import Bank, Encoded, Parameters, RawField, RefType, reference_fields
from mmflow.plugin.targets import Owner, Place, Target

Role = Literal["encoder", "head", "tokens", "loss", "memory"]
Output = tuple[Owner | str, str]
"""The node that gives an output, or the key of a batch column, and the name of the output (`value` of a column)."""

_NODES = ("encoders", "memories", "fields", "views", "sampler")
"""Sections of targets that a step reads."""


@dataclass(frozen=True)
class Read:
    """One reference of a node: where it stands, where it leads, and the outputs that it takes from there."""

    place: Place
    target: Target
    types: tuple[type[RefType], ...]
    outputs: tuple[Output, ...]

    @property
    def field(self) -> str | int:
        """The field of the component that holds the reference."""
        return self.place[0]

    @property
    def whole(self) -> bool:
        """True where the reader takes an `Encoding` with everything it needs, not one tensor."""
        if self.target.section == "memories":
            return Bank in self.types or Encoded in self.types
        if self.target.section in ("fields", "views", "sampler"):
            return Encoded in self.types and RawField in self.types
        return Encoded in self.types and self.target.output is None and self.target.section == "encoders"


@dataclass(frozen=True)
class Leaf:
    """A column that the loader must give: the field or view, and the encoder that prepares it, with its input."""

    target: Target
    encoder: Owner | None = None
    """The entry that holds the learned preprocessing; None for a raw column."""
    structure: Encoder | None = None
    """The declaration that preprocesses."""
    input: int = 0


class Site(NamedTuple):
    """Where a component is written: the entry, and the place inside it. References inside it are found from here."""

    owner: Owner
    place: Place = ()

    def at(self, *inner: str | int) -> Site:
        return Site(self.owner, (*self.place, *inner))

    @property
    def path(self) -> str:
        """The path of its modules and learned numbers."""
        return ".".join(map(str, (self.owner, *self.place)))


@dataclass(frozen=True)
class Node:
    """One application of a component in the graph."""

    owner: Owner
    component: Component
    role: Role
    reads: tuple[Read, ...]
    scope: Scope
    wave: int
    module: str
    """Path of the module that runs it, which is another node's where weights are shared."""
    structure: Component
    """The component whose `build` made that module."""
    site: Site
    """Where the structure is written."""
    static: bool = False
    apart: bool = False
    """Whether its rows are not those of the samples: static, or made of the whole batch (class means)."""
    trains: bool = True
    parameters: tuple[tuple[Place, Target], ...] = ()
    """References to the weights of other entries, with their places."""

    @property
    def follows(self) -> bool:
        """Whether its module is an average that moves with another encoder."""
        return isinstance(self.component, Application) and self.component.follows


@dataclass
class Graph:
    """Nodes in an order in which each comes after those that it reads."""

    nodes: dict[Owner, Node] = field(default_factory=dict)
    leaves: dict[str, Leaf] = field(default_factory=dict)
    """The batch columns by key."""
    parts: list[Owner] = field(default_factory=list)
    """Entries that are used through others only, and may have weights."""

    @cached_property
    def waves(self) -> int:
        return 1 + max((n.wave for n in self.working), default=0)

    @cached_property
    def working(self) -> list[Node]:
        """The nodes that run in a step: what losses and memories read, directly or not.

        Others have modules alone: encoders that lend their weights, averages for later stages. Without any loss, all.
        """
        if not any(node.role == "loss" for node in self.nodes.values()):
            return list(self.nodes.values())
        ends = [node.owner for node in self.nodes.values() if node.role in ("loss", "memory")]
        return list(self.part(ends).nodes.values())

    @cached_property
    def columns(self) -> dict[str, Leaf]:
        """The batch columns that a step reads."""
        read = {owner for node in self.working for read in node.reads for owner, _ in read.outputs}
        return {key: leaf for key, leaf in self.leaves.items() if key in read}

    def part(self, ends: Iterable[Owner]) -> Graph:
        """The nodes that some of its losses and memories need. A memory whose old state alone is read is not run."""
        needed = set(ends)
        for node in reversed(self.nodes.values()):
            if node.owner in needed:
                needed |= {p.owner for p in self.before(node)}
        nodes = {owner: node for owner, node in self.nodes.items() if owner in needed}
        return Graph(nodes, self.leaves, self.parts)

    def before(self, node: Node) -> Iterator[Node]:
        """The nodes that must have run before a node."""
        for read in node.reads:
            for output in read.outputs:
                producer = self.producer(output)
                if producer is not None and (producer.role != "memory" or read.target.after):
                    yield producer

    def at(self, wave: int, scope: Scope) -> list[Node]:
        return [n for n in self.working if n.wave == wave and n.scope == scope]

    def producer(self, output: Output) -> Node | None:
        """The node that gives an output; None for a column."""
        return None if isinstance(output[0], str) else self.nodes.get(output[0])

    @cached_property
    def kept(self) -> frozenset[Output]:
        """Outputs that are held for the whole batch: read by a batch node or in a later wave."""
        held: set[Output] = set()
        for reader in self.working:
            for read in reader.reads:
                for output in read.outputs:
                    producer = self.producer(output)
                    if producer is None or (producer.role == "memory" and not read.target.after):
                        continue
                    crosses = reader.wave > producer.wave
                    if crosses or (producer.scope == "row" and reader.scope == "batch"):
                        held.add(output)
        return frozenset(held)

    @cached_property
    def taps(self) -> dict[Owner, tuple[str, ...]]:
        """Taps that are read, by encoder: its `forward` is asked for these and no others."""
        asked: dict[Owner, dict[str, None]] = {}
        for reader in self.nodes.values():
            for output in (output for read in reader.reads for output in read.outputs):
                node = self.producer(output)
                if node is not None and isinstance(node.structure, Encoder) and output[1] in node.structure.taps():
                    asked.setdefault(node.owner, {})[output[1]] = None
        return {owner: tuple(names) for owner, names in asked.items()}

    def draws(self) -> Iterator[Owner]:
        """Encoders in which a draw of the model (dropout) makes `micro_batch_size` part of the result."""
        for node in self.working:
            if node.role == "encoder" and isinstance(node.structure, Encoder) and node.structure.draws():
                yield node.owner


def build_graph(scope: StageScope, roots: Iterable[Owner]) -> Graph:
    """The graph that the entries `roots` need. A loss that is no root is there for its parts alone."""
    roots = tuple(roots)
    builder = _Builder(scope)
    for owner in scope.reach(*roots):
        component = scope.component(owner)
        if owner.section == "parts" or (owner.section == "losses" and owner not in roots):
            builder.graph.parts.append(owner)
        elif isinstance(component, Encoder):
            builder.add_encoder(owner, component)
        elif isinstance(component, Loss):
            builder.add(owner, component, "loss", builder.reads(owner, component))
        elif isinstance(component, Memory):
            builder.add(owner, component, "memory", builder.reads(owner, component))
    return builder.graph


def face(graph: Graph, encoder: Owner, output: str) -> Output:
    """The node that gives an encoder's output: its body, or the projection that stands behind it."""
    if output == "pooled" and (head := encoder._replace(part="head")) in graph.nodes:
        return (head, "pooled")
    if output == "tokens" and (tokens := encoder._replace(part="tokens")) in graph.nodes:
        return (tokens, "pooled")
    if output == "features":
        return (encoder, "pooled")
    return (encoder, output)


def needed_outputs(scope: StageScope, owner: Owner) -> tuple[str, ...]:
    """Outputs that an entry reads of a whole encoding: those that its scores need, else `pooled`."""
    needs = [need for _, held in scope.held(owner) if isinstance(held, Score) for need in held.needs]
    component = scope.component(owner)
    own = component.needs if isinstance(component, Component) else ()
    return tuple(dict.fromkeys(needs or own or ("pooled",)))


class _Builder:
    """Adds the nodes of one stage, each after those that it reads."""

    def __init__(self, scope: StageScope) -> None:
        self.scope, self.graph = scope, Graph()

    def add_encoder(self, owner: Owner, component: Encoder) -> None:
        found = self.scope.structure(owner)
        base, site = found.encoder, Site(found.owner)
        module = self.scope.module(owner)
        trains = self.scope.trains(owner)
        reads = self.reads(owner, component)
        self.add(owner, component, "encoder", reads, module=module, structure=base, site=site, trains=trains)
        projections: tuple[tuple[Role, Encoder | None, str], ...] = (
            ("head", base.head, "pooled"),
            ("tokens", base.tokens, "tokens"),
        )
        for role, projection, output in projections:
            if projection is not None:
                read = Read(("of", 0), Target("encoders", owner.name), (), ((owner, output),))
                part, own = module._replace(part=role), owner._replace(part=role)
                self.add(own, projection, role, (read,), module=part, site=site.at(role), trains=trains)

    def add(
        self, owner: Owner, component: Component, role: Role, reads: tuple[Read, ...], *, module: Owner | None = None,
        structure: Component | None = None, site: Site | None = None, trains: bool = True,
    ) -> None:  # fmt: skip
        structure = structure or component
        static = role in ("encoder", "head", "tokens") and bool(reads) and all(map(self._static, reads))
        apart = static or self._apart(owner, role, structure, reads)
        scope: Scope = "batch" if apart or not isinstance(structure, Encoder | Loss) else structure.scope()
        wave = 0
        for read in reads:
            for output in read.outputs:
                producer = self.graph.producer(output)
                if producer is None or (producer.role == "memory" and not read.target.after):
                    continue
                wave = max(wave, producer.wave + (scope == "row" and producer.scope == "batch"))
        self.graph.nodes[owner] = Node(
            owner, component, role, reads, scope, wave, str(module or owner), structure, site or Site(owner),
            static, apart, trains, self._parameters(owner, component),
        )  # fmt: skip

    def reads(self, owner: Owner, component: Component) -> tuple[Read, ...]:
        types = dict(reference_fields(type(component)))
        targets = dict(self.scope.targets(owner))
        if isinstance(component, Application):
            types["of"] = reference_fields(type(self.scope.structure(owner).encoder))["of"]
            del targets["weights",]
            targets = {**self.scope.inputs(owner), **targets}
        return tuple(
            Read(place, target, types[name], self._outputs(owner, place, target, types[name]))
            for place, target in targets.items()
            if target.section in _NODES and types.get(name := str(place[0]), (Parameters,)) != (Parameters,)
        )

    def _parameters(self, owner: Owner, component: Component) -> tuple[tuple[Place, Target], ...]:
        types = reference_fields(type(component))
        targets = self.scope.targets(owner) if not owner.part else {}
        return tuple((p, t) for p, t in targets.items() if types.get(str(p[0])) == (Parameters,))

    def _static(self, read: Read) -> bool:
        producers = [self.graph.producer(output) for output in read.outputs]
        if any(p is not None for p in producers):
            return all(p is not None and p.static for p in producers)
        return self.scope.type_of(read.target).static

    def _apart(self, owner: Owner, role: Role, structure: Component, reads: tuple[Read, ...]) -> bool:
        """Whether a node makes rows of its own, or reads nothing but such rows."""
        if role == "encoder" and isinstance(structure, Encoder) and structure.scope() == "batch":
            given = next(iter(self.scope.outputs(owner).values()), None)
            return given is not None and given.static
        if role not in ("encoder", "head", "tokens") or not reads:
            return False
        producers = [self.graph.producer(output) for read in reads for output in read.outputs]
        return bool(producers) and all(producer is not None and producer.apart for producer in producers)

    def _outputs(
        self, owner: Owner, place: Place, target: Target, types: tuple[type[RefType], ...]
    ) -> tuple[Output, ...]:
        if target.stage is not None:
            raise ComponentError(
                f"{owner} reads {target.stage}.{target.name}, the encoder of another stage's model",
                hint=f"declare it as an encoder of its own: {{use: frozen, weights: {target.stage}.{target.name}}}",
            )
        if target.section == "encoders":
            if target.output is not None:
                return (face(self.graph, target.owner, target.output),)
            if Encoded in types:
                return tuple(face(self.graph, target.owner, name) for name in needed_outputs(self.scope, owner))
            return (face(self.graph, target.owner, "pooled"),)
        if target.section == "memories":
            return ((target.owner, target.output or "value"),)
        if owner.section == "losses" and (prepared := self._ids_column(owner, target)) is not None:
            return ((prepared, "value"),)
        key, leaf = self._column(owner, place, target)
        self.graph.leaves[key] = leaf
        return ((key, "value"),)

    def _column(self, owner: Owner, place: Place, target: Target) -> tuple[str, Leaf]:
        """The batch column behind a reference to a field or view: one for each way it is preprocessed."""
        # The column is the whole field or view; which copy is read is the reader's business.
        whole = replace(target, index=None, detach=False)
        key = ".".join((target.section, target.name, *((target.output,) if target.output else ())))
        if owner.section != "encoders" or place[0] != "of":
            return key, Leaf(whole)
        structure = self.scope.structure(owner)
        number = place[1] if len(place) > 1 and isinstance(place[1], int) else 0
        return f"{key}>{structure.owner}#{number}", Leaf(whole, structure.owner, structure.encoder, number)

    def _ids_column(self, owner: Owner, target: Target) -> str | None:
        """The column of a text that a loss reads: in the form of the nearest encoder below it that reads it too."""
        if target.section == "sampler" or self.scope.type_of(target).modality != "text":
            return None
        whole = replace(target, index=None, detach=False)
        below = [t.owner for t in self.scope.targets(owner).values() if t.section == "encoders"]
        for encoder in below:
            node = self.graph.nodes.get(encoder)
            for source, _ in [output for read in node.reads for output in read.outputs] if node is not None else []:
                if isinstance(source, str):
                    if source in self.graph.leaves and self.graph.leaves[source].target == whole:
                        return source
                elif source not in below:
                    below.append(source)
        return None
