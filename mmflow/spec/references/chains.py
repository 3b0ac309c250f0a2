"""How long entries may lead through one another, so that every walk over references ends within a few steps.

A chain is found from names alone, before anything is resolved: an entry stands one step behind every entry that one of
its references may name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from mmflow.spec.components.entry import Entry
from mmflow.spec.references.names import BadReference, StageNames
from mmflow.spec.references.wanted import references
from mmflow.spec.text.problems import Problem

LONGEST: Final = 64
"""Steps from an entry to the last one behind it."""

MOST: Final = 50_000
"""Entries at most, counted again for every stage that has some of its own."""

Entries = Mapping[str, Mapping[str, Entry]]
_Key = tuple[str, str, str]
"""Stage, section and name of an entry; an empty stage for what stages without entries of their own see."""


def chain_problems(base: Entries, merged: Mapping[str, Entries], stages: StageNames) -> list[Problem]:
    """One problem for the first entry at the end of a chain of more than `LONGEST` steps."""
    graph = _Graph(base, merged, stages)
    if len(graph.entries) > MOST:
        entry = list(graph.entries.values())[MOST]
        hint = "declare entries once, outside the stages, where they are alike"
        return [entry.problem(f"stages with entries of their own see more than {MOST:,} in all", key=True, hint=hint)]
    steps: dict[_Key, int] = {}
    for key in graph.entries:
        for one in graph.from_the_end(key, steps):
            steps[one] = 1 + max((steps.get(other, 0) for other in graph.behind(one)), default=-1)
            if steps[one] > LONGEST:
                entry = graph.entries[one]
                message = f"more than {LONGEST} entries lead through one another up to {entry.owner}"
                hint = "shorten the chain: name an entry further back"
                return [entry.problem(message, key=True, hint=hint)]
    return []


def circle_of(needs: Mapping[str, Collection[str]]) -> list[str]:
    """The first circle of what needs each other, its beginning again at the end; empty where there is none."""
    left = {name: [other for other in sorted(others) if other in needs] for name, others in needs.items()}
    done: set[str] = set()
    for name in needs:
        path = [name] if name not in done else []
        while path:
            other = left[path[-1]].pop(0) if left[path[-1]] else None
            if other is None:
                done.add(path.pop())
            elif other in path:
                return [*path[path.index(other) :], other]
            elif other not in done:
                path.append(other)
    return []


class _Graph:
    def __init__(self, base: Entries, merged: Mapping[str, Entries], stages: StageNames) -> None:
        self.stages = stages
        self.entries: dict[_Key, Entry] = {}
        self.names: dict[str, dict[str, list[_Key]]] = {}
        self._words: dict[int, tuple[tuple[str, ...], ...]] = {}
        for stage, sections in [("", base), *merged.items()]:
            own = not stage or any(
                entry is not base.get(section, {}).get(name)
                for section, found in sections.items()
                for name, entry in found.items()
            )
            if not own:
                self.names[stage] = self.names[""]
                continue
            known = self.names[stage] = {}
            for section, found in sections.items():
                for name, entry in found.items():
                    self.entries[stage, section, name] = entry
                    known.setdefault(name, []).append((stage, section, name))

    def behind(self, key: _Key) -> list[_Key]:
        """The entries that references of an entry may name: of its own stage, or of one that they begin with."""
        entry = self.entries[key]
        if id(entry) not in self._words:
            self._words[id(entry)] = tuple({found.words[:5]: None for found in references(entry.component)})
        found: dict[_Key, None] = {}
        for words in self._words[id(entry)]:
            found |= dict.fromkeys(self.repeated(words, key[0]))
            for place, word in enumerate(words[:3]):
                found |= dict.fromkeys(self.names[key[0]].get(word, ()))
                stage = words[place - 1] if place else ""
                found |= dict.fromkeys(self.names.get(stage, {}).get(word, ()) if stage else ())
        found.pop(key, None)
        return list(found)

    def repeated(self, words: tuple[str, ...], inside: str) -> list[_Key]:
        """The entries of an iteration's stage that a reference may name."""
        first, *further = words
        if first == "stages" and further:
            words, first = tuple(further), further[0]
        if first in self.stages.gives or not self.stages.begins(first, inside):
            return []
        try:
            stage, rest = self.stages.cut(words, inside)
        except BadReference:
            return []
        return self.names.get(stage, {}).get(rest[0], []) if rest else []

    def from_the_end(self, key: _Key, known: Mapping[_Key, int]) -> Iterator[_Key]:
        """`key` and the entries behind it that are not `known`, each after those behind it; circles are cut."""
        way = {} if key in known else {key: iter(self.behind(key))}
        while way:
            last = next(reversed(way))
            following = next((one for one in way[last] if one not in known and one not in way), None)
            if following is None:
                del way[last]
                yield last
            else:
                way[following] = iter(self.behind(following))
