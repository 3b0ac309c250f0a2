"""The graph of a stage: nodes, their inputs, their scopes and the waves in which a step runs them.

Torch-free, so that `check` can tell which outputs a step keeps whole. A node is *row* (a row's output depends on that
row alone) or *batch* (it needs the whole batch). The wave of a row node comes one after that of any batch
node it reads; batch nodes run at the end of the latest wave they read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from mmflow.plugin.component import Component, nested_components
from mmflow.plugin.kinds import Application, Encoder, Scope
from mmflow.plugin.references import Bank, Encoded, RawField, RefType, reference_fields
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import SAMPLE

Role = Literal["encoder", "head", "tokens", "loss", "memory", "value"]
_AFTER = "/after"
Output = tuple[Owner | str, str]
"""The node that gives an output, or the key of a batch column, and the name of the output (`value` of a column)."""


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
        if self.target.section in ("memories", "stages"):
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
    rows: str = SAMPLE
    """The axis of its rows."""

    @cached_property
    def gathers(self) -> tuple[Read, ...]:
        """The references of an encoder to indices, by which it takes rows of its inputs; one for each input."""
        return tuple(read for read in self.reads if read.field == "rows") if self.role == "encoder" else ()

    @cached_property
    def given(self) -> tuple[Read, ...]:
        """The references that its method receives."""
        return tuple(read for read in self.reads if read not in self.gathers)

    def requires(self, place: Place) -> bool:
        """Whether it cannot do without a reference: an input, a number, or a field that a spec may not leave out."""
        field = str(place[0])
        info = type(self.component).model_fields.get(field)
        references = reference_fields(type(self.component))
        return field == "of" or field not in references or info is None or info.is_required()

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

    def without(self, columns: Collection[str]) -> frozenset[Owner]:
        """The nodes that cannot run where of the columns that they read only these are there."""
        off: set[Owner] = set()
        for node in self.nodes.values():
            for read in node.reads:
                # A memory that is not written to can be read as it is.
                before = [o for o, _ in read.outputs if isinstance(o, str) or o.section != "memories"]
                lacks = any(o not in columns if isinstance(o, str) else o in off for o in before)
                if lacks and node.requires(read.place):
                    off.add(node.owner)
        return frozenset(off)

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
                    crosses = reader.wave > producer.wave or (producer.scope == "row" and reader.rows != producer.rows)
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
            made = node.structure
            if isinstance(made, Encoder) and (made.draws() or (made.lora is not None and made.lora.dropout)):
                yield node.owner.whole


def remembered(target: Target) -> str:
    """The name under which a node reads a column of a memory, and which of its two states."""
    return f"{target.output or 'value'}{_AFTER if target.after else ''}"


def column_of(output: str) -> tuple[str, bool]:
    """What `remembered` named: the column, and whether the state behind the step is meant."""
    return output.removesuffix(_AFTER), output.endswith(_AFTER)


def face(graph: Graph, encoder: Owner, output: str) -> Output:
    """The node that gives an encoder's output: its body, or the projection that stands behind it."""
    if output == "pooled" and (head := encoder._replace(part="head")) in graph.nodes:
        return (head, "pooled")
    if output == "tokens" and (tokens := encoder._replace(part="tokens")) in graph.nodes:
        return (tokens, "pooled")
    if output == "features":
        return (encoder, "pooled")
    head = graph.nodes.get(encoder._replace(part="head"))
    if head is not None and any(output in made.emits() for _, made in nested_components(head.structure)):
        return (head.owner, output)
    return (encoder, output)
