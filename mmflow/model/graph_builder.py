"""Building the graph of a stage: its nodes in order, and the batch columns that they read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from mmflow.model.graph import Graph, Leaf, Node, Output, Read, Role, Site, face, remembered
from mmflow.plugin.component import Component, ComponentError, nested_components
from mmflow.plugin.kinds import Application, Encoder, Loss, Memory, Scope, Score, StageScope
from mmflow.plugin.numbers import BatchValue, takes_rows
from mmflow.plugin.references import Encoded, Parameters, RefType, Weight, reference_fields
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import NUMBER, SAMPLE, of_samples
from mmflow.spec.references.forms import needed_outputs

_NODES = ("encoders", "memories", "fields", "views", "sampler", "stages")
"""Sections of targets that a step reads; of stages their values."""


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
        gathered = role == "encoder" and any(read.field == "rows" for read in reads)
        node = role in ("encoder", "head", "tokens")
        static = node and not gathered and bool(reads) and all(map(self._static, reads))
        apart = static or self._apart(owner, role, structure, reads)
        scope: Scope = "batch" if apart or not isinstance(structure, Encoder | Loss) else structure.scope()
        rows = self._rows(owner, role, reads, apart=apart)
        wave = 0
        for read in reads:
            for output in read.outputs:
                producer = self.graph.producer(output)
                if producer is None or (producer.role == "memory" and not read.target.after):
                    continue
                later = producer.scope == "batch" or producer.rows != rows
                wave = max(wave, producer.wave + (scope == "row" and later))
        self.graph.nodes[owner] = Node(
            owner, component, role, reads, scope, wave, str(module or owner), structure, site or Site(owner),
            static, apart, trains, self._parameters(owner, component), rows,
        )  # fmt: skip

    def reads(self, owner: Owner, component: Component) -> tuple[Read, ...]:
        types = dict(reference_fields(type(component)))
        targets = dict(self.scope.targets(owner))
        if isinstance(component, Application):
            types["of"] = reference_fields(type(self.scope.structure(owner).encoder))["of"]
            del targets["weights",]
            targets = {**self.scope.inputs(owner), **targets, **self.scope.gathered(owner)}
        # A field that takes a number for each row has no path to the number of another component.
        types |= {p[0]: (Weight,) for p, t in targets.items() if takes_rows(type(component), str(p[0])) and not t.field}
        own = tuple(
            Read(place, target, wanted, self._outputs(owner, place, target, wanted))
            for place, target in targets.items()
            if target.section in _NODES and (wanted := types.get(str(place[0]), (Parameters,))) != (Parameters,)
        )
        return (*own, *self._numbers(owner))

    def _numbers(self, owner: Owner) -> Iterator[Read]:
        """The reads of an entry's numbers of the batch, each of which is a node of its own."""
        for place, held in self.scope.held(owner):
            if isinstance(held, BatchValue):
                # A path leads to the number of another component, or of a part.
                target = self.scope.targets(owner).get(place) or Target(
                    owner.section, owner.name, field=(str(place[0]),)
                )
                yield Read(place, target, (), ((self._number(target, held), "value"),))

    def _number(self, target: Target, made: BatchValue) -> Owner:
        """The node of a number of the batch, where it is written."""
        site = Site(target.owner, target.field)
        owner = target.owner._replace(part=".".join(target.field))
        if owner not in self.graph.nodes:
            scores = [need for _, held in nested_components(made) if isinstance(held, Score) for need in held.needs]
            wanted = tuple(dict.fromkeys(scores or made.needs or ("pooled",)))
            types = reference_fields(type(made))
            reads: list[Read] = []
            for place, found in self.scope.targets(target.owner).items():
                inner = place[len(target.field) :]
                if place[: len(target.field)] == target.field and inner and str(inner[0]) in types:
                    kinds = types[str(inner[0])]
                    outputs = self._outputs(target.owner, inner, found, kinds)
                    if Encoded in kinds and found.section == "encoders" and found.output is None:
                        outputs = tuple(face(self.graph, found.owner, name) for name in wanted)
                    reads.append(Read(inner, found, kinds, outputs))
            self.add(owner, made, "value", tuple(reads), site=site)
        return owner

    def _parameters(self, owner: Owner, component: Component) -> tuple[tuple[Place, Target], ...]:
        types = reference_fields(type(component))
        targets = self.scope.targets(owner) if not owner.part else {}
        return tuple((p, t) for p, t in targets.items() if types.get(str(p[0])) == (Parameters,))

    def _rows(self, owner: Owner, role: Role, reads: tuple[Read, ...], *, apart: bool) -> str:
        """The axis of a node's rows: its own where it makes them, an index's that gathers them, else its inputs'."""
        if role in ("memory", "value"):
            return SAMPLE if role == "memory" else NUMBER
        if apart and role == "encoder" and (given := next(iter(self.scope.outputs(owner).values()), None)) is not None:
            return given.axes[0] if given.axes else SAMPLE
        axes: list[str] = []
        gathered: list[str] = []
        for read in reads:
            producers = [p for output in read.outputs if (p := self.graph.producer(output)) is not None]
            if role == "encoder" and read.field == "rows":
                gathered += [producer.rows for producer in producers]
            elif read.target.section == "memories":
                continue
            elif producers:
                axes += [producer.rows for producer in producers]
            else:
                axes += self.scope.type_of(read.target).axes[:1]
        return next(iter(gathered), None) or next(filter(of_samples, axes), None) or next(iter(axes), SAMPLE)

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
        if any(read.field == "rows" for read in reads):
            return False
        producers = [self.graph.producer(output) for read in reads for output in read.outputs]
        return bool(producers) and all(producer is not None and producer.apart for producer in producers)

    def _outputs(
        self, owner: Owner, place: Place, target: Target, types: tuple[type[RefType], ...]
    ) -> tuple[Output, ...]:
        if target.stage is not None:
            raise ComponentError(
                f"{owner} reads {target.stage}.{target.name}, which is a memory of another stage's model",
                hint="give this stage a memory of its own",
            )
        if target.section == "encoders":
            if target.output is not None:
                return (face(self.graph, target.owner, target.output),)
            if Encoded in types:
                return tuple(face(self.graph, target.owner, name) for name in needed_outputs(self.scope, owner))
            return (face(self.graph, target.owner, "pooled"),)
        if target.section == "memories":
            return ((target.owner, remembered(target)),)
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
