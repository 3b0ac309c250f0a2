"""Sources inside sources that are named by their entry, `of: data.all`: each stands for what is written there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Unpack

from mmflow.plugin.component import Component, Shared
from mmflow.plugin.kinds import Source, View
from mmflow.plugin.references import Written
from mmflow.spec.components.classes import models_in
from mmflow.spec.components.entry import Entry
from mmflow.spec.text.problems import Parts, Path, Problem, did_you_mean

DEEPEST = 32
"""Sources at most that are made of one another."""
MOST = 1000
"""Sources at most inside one entry."""


def filled_in(entries: Mapping[str, Entry], problems: list[Problem]) -> dict[str, Entry]:
    """Entries of `data` with every path to another one replaced by that one's declaration.

    A path that leads nowhere, or in a circle, is a problem; its entry is left without a component.
    """
    filler = _Filler(entries, problems)
    return {name: replace(entry, component=filler.source(name, ())) for name, entry in entries.items()}


def made_of_sources(component: Component | View | None) -> bool:
    """Whether a source has others inside."""
    return isinstance(component, Source) and any(
        Source in models_in(field.annotation) and getattr(component, name)
        for name, field in type(component).model_fields.items()
    )


class _Filler:
    def __init__(self, entries: Mapping[str, Entry], problems: list[Problem]) -> None:
        self.entries, self.problems = entries, problems
        self.done: dict[str, Component | View | None] = {}
        self.inside: dict[str, int] = {}
        """Sources inside each entry, itself included, counted as often as they stand there."""
        self.depths: dict[str, int] = {}

    def source(self, name: str, within: tuple[str, ...]) -> Component | View | None:
        """The declaration of an entry, filled in; None where it cannot be."""
        if name not in self.done:
            made = self.entries[name].component
            self.done[name] = self.filled(made, name, (), (*within, name)) if isinstance(made, Source) else made
        return self.done[name]

    def filled(self, made: Component, name: str, path: Path, within: tuple[str, ...]) -> Component | None:
        update: dict[str, Written] = {}
        for attribute, field in type(made).model_fields.items():
            if Source not in models_in(field.annotation):
                continue
            value = getattr(made, attribute)
            place = (*path, field.alias or attribute)
            several = isinstance(value, tuple)
            found = [
                self.one(member, name, (*place, index) if several else place, within)
                for index, member in enumerate(value if several else (value,))
            ]
            if any(
                new is None and old is not None for new, old in zip(found, value if several else (value,), strict=True)
            ):
                return None
            update[attribute] = tuple(found) if several else found[0]
        return made.model_copy(update=update) if update else made

    def one(self, value: Written, name: str, path: Path, within: tuple[str, ...]) -> Written:
        if isinstance(value, Source):
            return self.filled(value, name, path, within)
        if not isinstance(value, Shared):
            return value
        section, other = value.words[0], ".".join(value.words[1:])
        if section != "data" or other not in self.entries:
            hint = did_you_mean(other or value.path, self.entries)
            self.report(name, path, f"{value.path} is no entry of data", found=value.path, hint=hint)
            return None
        if other in within:
            circle = " -> ".join((*within[within.index(other) :], other))
            self.report(name, path, f"a source that is made of itself: {circle}", found=value.path)
            return None
        made = self.source(other, within) if len(within) <= DEEPEST else None
        self.inside[name] = self.inside.get(name, 1) + self.inside.get(other, 1)
        self.depths[name] = max(self.depths.get(name, 1), self.depths.get(other, 1) + 1)
        if self.depths[name] > DEEPEST or len(within) > DEEPEST:
            message, hint = f"more than {DEEPEST} sources are made of one another", "name an entry further back"
            if not any(problem.message == message for problem in self.problems):
                self.report(name, path, message, hint=hint)
            return None
        if self.inside[name] > MOST:
            self.report(name, path, f"it is made of more than {MOST} sources", hint="name fewer of them")
            return None
        return made

    def report(self, name: str, path: Path, message: str, **parts: Unpack[Parts]) -> None:
        self.problems.append(self.entries[name].problem(message, path, **parts))
