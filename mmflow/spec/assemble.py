"""A checked spec from its parts: the scope of every stage, and the entries that stages override."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from mmflow.plugin.addresses import address
from mmflow.plugin.component import Component
from mmflow.plugin.kinds import DataStage, Encoder, Loss, Memory, Source, Stage, Tracker, View
from mmflow.plugin.references import Ref
from mmflow.plugin.streams import Bound, Streams, as_read, axis_of
from mmflow.plugin.targets import STAGE, Owner, Place, Target
from mmflow.spec.components.classes import VALUES
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.refresh import bare
from mmflow.spec.components.sections import Sections
from mmflow.spec.references.groups import inner_groups
from mmflow.spec.references.names import INIT, NODES
from mmflow.spec.references.resolver import Resolver
from mmflow.spec.references.scope import Scope
from mmflow.spec.spec import Spec
from mmflow.spec.text.document import Document
from mmflow.spec.text.problems import Problem

C = TypeVar("C")
Merged = Mapping[str, Mapping[str, Mapping[str, Entry]]]
"""Stage -> section -> name -> the entry that the stage sees."""


def assembled(
    document: Document,
    sections: Sections,
    merged: Merged,
    resolvers: Mapping[str, Resolver],
    notes: tuple[Problem, ...],
) -> Spec:
    """The spec whose stages were resolved without problems."""
    return _Assembler(sections, merged, resolvers).spec(document, notes)


class _Assembler:
    def __init__(self, sections: Sections, merged: Merged, resolvers: Mapping[str, Resolver]) -> None:
        self.sections, self.merged, self.resolvers = sections, merged, resolvers
        repeats = [repeat.repetition for repeat in sections.repeats.values()]
        self.every = sections.every
        self.trains = {n: made for n, stage in sections.stages.items() if (made := stage.declaration) and made.trains}
        self.first: dict[str, str] = {}
        """By stage the first one of its model chain, for those that were asked for."""
        self.open_ends = {name: stands for one in repeats for name, stands in one.open_ends().items()}

    def spec(self, document: Document, notes: tuple[Problem, ...]) -> Spec:
        entries = self.sections.entries
        every = {name: made for name, stage in self.sections.every.items() if (made := stage.declaration) is not None}
        stages = {name: made for name, made in every.items() if name in self.sections.stages}
        scopes = {name: self.scope(name, made) for name, made in every.items()}
        repeats = {name: repeat.repetition for name, repeat in self.sections.repeats.items()}
        scopes |= {name: scopes[furthest] for name, furthest in self.open_ends.items()}
        overridden: dict[str, dict[str, dict[str, Component | View | None]]] = {}
        for name, stage in self.sections.every.items():
            for section, node in stage.overrides.items():
                there = self.merged[name][section]
                own = {n: there[n].component if n in there else None for n in node.entries()}
                if own:
                    overridden.setdefault(name, {})[section] = own
        written = [entry for section in entries.values() for entry in section.values()]
        written += [stage.entry for stage in self.sections.every.values()]
        written += [
            there[section][name]
            for stage, there in self.merged.items()
            for section, own in overridden.get(stage, {}).items()
            for name in own
            if name in there[section]
        ]
        return Spec(
            name=self.sections.name,
            seed=self.sections.seed,
            report=self.sections.report,
            data=_made(entries["data"], Source),
            views=_made(entries["views"], View),
            encoders=_made(entries["encoders"], Encoder),
            memories=_made(entries["memories"], Memory),
            losses=_made(entries["losses"], Loss),
            parts=_made(entries["parts"], Component),
            stages=stages,
            inner={name: made for name, made in every.items() if name not in stages},
            track=_made(entries["track"], Tracker),
            repeats=repeats,
            iterations={n: stage.iteration for n, stage in self.sections.stages.items() if stage.iteration is not None},
            overridden=overridden,
            document=document,
            scopes=scopes,
            notes=notes,
            entries=tuple(written),
        )

    def scope(self, name: str, made: Stage) -> Scope:
        resolver, entries = self.resolvers[name], self.merged[name]
        targets = resolver.targets(STAGE)
        data = data_of(resolver)
        if made.trains:
            chosen = made.minimized(list(entries["losses"]))
        else:
            chosen = [owner.name for owner in resolver.reach(STAGE) if owner.section == "losses"]
        stage = self.every[name]
        around = self.every[stage.place.around] if stage.place is not None else stage
        iteration, outer = around.iteration, around.declaration
        seed = (outer or made).seeded(self.sections.seed)
        scope = Scope(
            stage=name,
            declaration=made,
            seed=seed if iteration is None else address(seed, "iteration", iteration.index),
            views=_as_read(_made(entries["views"], View), resolver),
            encoders=_made(entries["encoders"], Encoder),
            memories=_made(entries["memories"], Memory),
            losses=_made({loss: entries["losses"][loss] for loss in chosen}, Loss),
            parts=_made(entries["parts"], Component),
            data=data,
            source=self.source(data, made),
            fields=dict(resolver.fields or {}),
            joined={},
            groups={},
            around=stage.place.around if stage.place is not None else None,
            start=_stage_name(targets.get(("start",)) or targets.get(("start", "from"))),
            model=_stage_name(targets.get(("model",))),
            preparation_data=None,
            wiring=resolver,
        )
        learns = any(isinstance(one := scope.component(o), Encoder) and one.learns() for o in scope.reached())
        scope = replace(scope, joined=self.joined(scope), preparation_data=self.preparation(name) if learns else None)
        if stage.groups:
            scope = replace(scope, groups=inner_groups(stage, self.resolvers, scope.reached()))
        base = {section: self.sections.entries[section] for section in NODES}
        untrained = replace(
            scope,
            views=_made(base["views"], View),
            encoders=_made(base["encoders"], Encoder),
            memories=_made(base["memories"], Memory),
            losses={},
            parts=_made(base["parts"], Component),
            groups={},
            start=None,
            model=None,
            wiring=resolver.untrained(),
        )
        return replace(scope, base=untrained)

    def source(self, data: Target | Mapping[str, Target] | None, made: Stage) -> Source | None:
        """The entries of data that a stage reads; None where some are not made yet."""
        if isinstance(data, Mapping):
            streams = {name: self.entry(target) for name, target in data.items()}
            found = {n: Bound(of=s, names=(n,), axis=axis_of(n)) for n, s in streams.items() if s is not None}
            return Streams(of=dict(found)) if len(found) == len(streams) else None
        source = self.entry(data)
        return as_read(made, source) if source is not None else None

    def entry(self, data: Target | None) -> Source | None:
        entry = self.sections.entries["data"].get(data.name) if data is not None and data.section == "data" else None
        source = entry.component if entry is not None else None
        return source if isinstance(source, Source) else None

    def joined(self, scope: Scope) -> dict[str, Target]:
        """Values of other stages that the stage's data is joined with: by `fields`, and where an entry reads one."""
        found: dict[str, Target] = {}
        for owner in (STAGE, *scope.reached()):
            for place, target in scope.targets(owner).items():
                name = self.open_ends.get(target.name, target.name)
                there = self.every.get(bare(name)) if target.section == "stages" else None
                gives = (there.gives if there is not None else None) or {}
                if gives.get(target.output or "", gives.get("*")) in VALUES:
                    names = joined_names(scope.declaration, place, target) if owner == STAGE else ()
                    found |= dict.fromkeys(names or (target.as_field.name,), target)
        return found

    def preparation(self, name: str) -> Target | Mapping[str, Target] | None:
        """The data of the train stage at the root of the model chain, else of the first one, else the stage's own."""
        root, seen = name, {name}
        while root not in self.first:
            targets = self.resolvers[root].targets(STAGE)
            above = _stage_name(targets.get(("start",)) or targets.get(("start", "from")) or targets.get(("model",)))
            if above is None or above in seen:
                break
            root = self.open_ends.get(above, above)
            seen.add(root)
        root = self.first.get(root, root)
        self.first |= dict.fromkeys(seen, root)
        candidates = [root] if root in self.trains else list(self.trains)[:1]
        for candidate in (*candidates, name):
            data = data_of(self.resolvers[candidate])
            if data is not None:
                return data
        return None


def joined_names(made: Stage, place: Place, target: Target) -> Sequence[str]:
    """The fields that a value of another stage becomes where the stage itself refers to it; none where no stream of
    its data nor its `fields` name one."""
    streams = made.streams() if isinstance(made, DataStage) else {}
    if place[0] == "fields":
        return (str(place[1]),)
    if place[0] == "data" and place[2:3] == ("fields",):
        return (f"{place[1]}.{place[3]}",)
    if place[0] == "data" and place[2:3] == ("sampler",):
        return (f"{place[1]}.{target.as_field.name}",)
    if place[0] == "sampler":
        return tuple(f"{name}.{target.as_field.name}" for name, one in streams.items() if one.sampler is None)
    return ()


def data_of(resolver: Resolver) -> Target | Mapping[str, Target] | None:
    """The data that a stage reads: the first where it names several, each of the streams of a training."""
    targets = resolver.targets(STAGE)
    streams = {str(p[1]): t for p, t in targets.items() if p[0] == "data" and p[2:] == ("data",)}
    if streams and resolver.stage is not None and resolver.stage.trains:
        return streams
    target = targets.get(("data",)) or targets.get(("data", 0)) or next(iter(streams.values()), None)
    return target if target is not None and target.section in ("data", "stages") else None


def _as_read(views: Mapping[str, View], resolver: Resolver) -> Mapping[str, View]:
    """Views as the stage reads them: with the names of others that stand in for what they name."""
    made = resolver.stage
    if not isinstance(made, DataStage) or not made.replace:
        return views
    found: dict[str, View] = {}
    for name, view in views.items():
        targets = resolver.targets(Owner("views", name))
        of = tuple(Ref(f"{t.section}.{t}") if (t := targets.get(("of", n))) else r for n, r in enumerate(view.of))
        changed = targets != resolver.written(Owner("views", name))
        found[name] = view.model_copy(update={"of": of}) if changed else view
    return found


def _stage_name(target: Target | None) -> str | None:
    return None if target is None or target.name == INIT else target.name


def _made(entries: Mapping[str, Entry], kind: type[C]) -> Mapping[str, C]:
    found = {name: entry.component for name, entry in entries.items()}
    return {name: made for name, made in found.items() if isinstance(made, kind)}
