"""A checked spec from its parts: the scope of every stage, and the entries that stages override."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from mmflow.plugin.addresses import address
from mmflow.plugin.component import Component
from mmflow.plugin.kinds import Encoder, Loss, Memory, Source, Stage, Tracker, View
from mmflow.plugin.targets import STAGE, Target
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.sections import Sections
from mmflow.spec.references.names import INIT
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
        self.open_ends = {name: stands for one in repeats for name, stands in one.open_ends().items()}

    def spec(self, document: Document, notes: tuple[Problem, ...]) -> Spec:
        entries = self.sections.entries
        stages = {name: made for name, stage in self.sections.stages.items() if (made := stage.declaration) is not None}
        scopes = {name: self.scope(name, made) for name, made in stages.items()}
        repeats = {name: repeat.repetition for name, repeat in self.sections.repeats.items()}
        scopes |= {name: scopes[furthest] for name, furthest in self.open_ends.items()}
        overridden: dict[str, dict[str, dict[str, Component | View | None]]] = {}
        for name, stage in self.sections.stages.items():
            for section, node in stage.overrides.items():
                there = self.merged[name][section]
                own = {n: there[n].component if n in there else None for n in node.entries()}
                if own:
                    overridden.setdefault(name, {})[section] = own
        every = [entry for section in entries.values() for entry in section.values()]
        every += [stage.entry for stage in self.sections.stages.values()]
        every += [
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
            track=_made(entries["track"], Tracker),
            repeats=repeats,
            iterations={n: stage.iteration for n, stage in self.sections.stages.items() if stage.iteration is not None},
            overridden=overridden,
            document=document,
            scopes=scopes,
            notes=notes,
            entries=tuple(every),
        )

    def scope(self, name: str, made: Stage) -> Scope:
        resolver, entries = self.resolvers[name], self.merged[name]
        targets = resolver.targets(STAGE)
        data = self.data_of(name)
        if made.trains:
            chosen = made.minimized(list(entries["losses"]))
        else:
            chosen = [owner.name for owner in resolver.reach(STAGE) if owner.section == "losses"]
        source = self.sections.entries["data"][data].component if data is not None else None
        start, model = targets.get(("start",)), targets.get(("model",))
        iteration = self.sections.stages[name].iteration
        seed = made.seeded(self.sections.seed)
        return Scope(
            stage=name,
            declaration=made,
            seed=seed if iteration is None else address(seed, "iteration", iteration.index),
            views=_made(entries["views"], View),
            encoders=_made(entries["encoders"], Encoder),
            memories=_made(entries["memories"], Memory),
            losses=_made({loss: entries["losses"][loss] for loss in chosen}, Loss),
            parts=_made(entries["parts"], Component),
            data_name=data,
            source=source if isinstance(source, Source) else None,
            fields=dict(resolver.fields or {}),
            start=_stage_name(start),
            model=_stage_name(model),
            preparation_data=self.preparation(name),
            wiring=resolver,
        )

    def data_of(self, name: str) -> str | None:
        """The entry of data that a stage reads."""
        targets = self.resolvers[name].targets(STAGE)
        target = targets.get(("data",)) or targets.get(("data", 0))
        return target.name if target is not None and target.section == "data" else None

    def preparation(self, name: str) -> str | None:
        """The data of the train stage at the root of the model chain, else of the first one, else the stage's own."""
        root, seen = name, {name}
        while True:
            targets = self.resolvers[root].targets(STAGE)
            above = _stage_name(targets.get(("start",)) or targets.get(("model",)))
            if above is None or above in seen:
                break
            root = self.open_ends.get(above, above)
            seen.add(root)
        trains = [n for n, stage in self.sections.stages.items() if (made := stage.declaration) and made.trains]
        candidates = [root] if root in trains else trains[:1]
        for candidate in (*candidates, name):
            data = self.data_of(candidate)
            if data is not None:
                return data
        return None


def _stage_name(target: Target | None) -> str | None:
    return None if target is None or target.name == INIT else target.name


def _made(entries: Mapping[str, Entry], kind: type[C]) -> Mapping[str, C]:
    found = {name: entry.component for name, entry in entries.items()}
    return {name: made for name, made in found.items() if isinstance(made, kind)}
