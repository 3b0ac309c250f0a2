"""The names that one stage sees, and how a reference that leads nowhere is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmflow.plugin.references import RefType
from mmflow.plugin.targets import INIT
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.refresh import Inner, bare, output_of, time_before
from mmflow.spec.components.repeat import ALL, LAST, Iteration, Repetition
from mmflow.spec.components.sections import Sections
from mmflow.spec.text.problems import did_you_mean

NODES = ("views", "encoders", "memories", "losses", "parts")
SECTIONS = ("fields", *NODES, "stages", "data", "sampler")

SAMPLER = "sampler"
"""The word before the fields that a sampler adds: `sampler.label`, of a stream `pool.sampler.label`."""

SINGULAR: Mapping[str, str] = {
    "fields": "a field",
    "views": "a view",
    "encoders": "an encoder",
    "memories": "a memory",
    "losses": "a loss",
    "parts": "a part",
    "stages": "a stage",
    "data": "an entry of data",
    "sampler": "a field of the sampler",
}


class BadReference(Exception):
    """A reference that leads nowhere, with the parts of its problem."""

    def __init__(
        self, message: str, *, found: str | None = None, expected: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.found, self.expected, self.hint = message, found, expected, hint


@dataclass
class StageNames:
    """The stages of a spec as a reference sees them: their outputs (None: unknown) and the encoders inside them."""

    gives: dict[str, Mapping[str, str] | None] = field(default_factory=dict)
    encoders: dict[str, frozenset[str]] = field(default_factory=dict)
    repeats: Mapping[str, Repetition] = field(default_factory=dict)
    iterations: Mapping[str, Iteration] = field(default_factory=dict)
    """Of the stages inside a repetition, by their full names."""
    inner: Mapping[str, Inner] = field(default_factory=dict)
    """Of the stages inside another, by their full names."""
    groups: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """By stage, the groups of stages inside it with the names of these."""
    published: Mapping[str, Mapping[str, tuple[str, str, str]]] = field(default_factory=dict)
    """By stage, the outputs that it has from stages inside it, as `StageEntry.published` says."""

    @classmethod
    def of(
        cls,
        sections: Sections,
        merged: Mapping[str, Mapping[str, Mapping[str, Entry]]],
        streams: dict[str, str],
    ) -> StageNames:
        """Those of a spec; `merged` are the entries that each stage sees."""
        stages, inner = sections.stages, sections.inner
        places = {name: stage.place for name, stage in inner.items() if stage.place is not None}
        gives = {stage.name: stage.gives for stage in stages.values()}
        encoders = {name: frozenset(merged[name]["encoders"]) for name in stages}
        for name, stage in inner.items():
            if not (stage.place and stage.place.later):
                gives[name] = gives[time_before(name)] = stage.gives
        names = cls(
            gives,
            encoders | {INIT: frozenset(sections.entries["encoders"])},
            {name: repeat.repetition for name, repeat in sections.repeats.items()},
            {name: stage.iteration for name, stage in stages.items() if stage.iteration is not None},
            places,
            {
                name: {group.name: tuple(group.inside) for group in stage.groups.values()}
                for name, stage in stages.items()
                if stage.groups
            },
            {name: stage.published() for name, stage in stages.items() if stage.groups},
            streams,
        )
        for open_end, furthest in names.open_ends().items():
            gives[open_end] = gives.get(furthest)
            names.encoders[open_end] = names.encoders.get(furthest, frozenset())
        return names

    streams: dict[str, str] = field(default_factory=dict)
    """The streams of data that some stage has, with that stage."""

    def begins(self, word: str, inside: str) -> bool:
        """Whether a reference of the stage `inside` that begins with this word leads to a stage."""
        return (
            word in self.gives
            or word in self.repeats
            or word in self._siblings(inside)
            or word in self._groups(inside)
            or word in self._group(inside)
        )

    def cut(self, words: tuple[str, ...], inside: str) -> tuple[str, tuple[str, ...]]:
        """The full name of the stage that the words begin with, as the stage `inside` means it, and the rest."""
        first, rest = words[0], words[1:]
        if first in self._group(inside):
            return output_of(replace(self.inner[inside], stage=first)), rest
        if first in self._groups(inside):
            return self._of_group(words, inside)
        if first in self._siblings(inside):
            iteration = self.iterations[self.around(inside)]
            return self.repeats[iteration.repeat].stage(iteration.index, first), rest
        return self._of_repetition(words, inside) if first in self.repeats else (first, rest)

    def known(self, inside: str) -> list[str]:
        """The names of stages that a reference of the stage `inside` may begin with, for hints."""
        hidden = {*self.iterations, *self.inner, *self.open_ends()}
        outside = [name for name in self.gives if name not in hidden and bare(name) == name]
        ends = [f"{one.name}.{LAST}.{stage}" for one in self.repeats.values() for stage in one.stages]
        groups = self._groups(inside).items() if inside not in self.inner else ()
        own = [f"{group}.{stage}" for group, stages in groups for stage in stages]
        return [*self._group(inside), *own, *self._siblings(inside), *outside, *ends]

    def open_ends(self) -> dict[str, str]:
        """`Repetition.open_ends` of all repetitions."""
        return {name: stands for repetition in self.repeats.values() for name, stands in repetition.open_ends().items()}

    def around(self, inside: str) -> str:
        """The stage around a stage inside another; any other itself."""
        return self.inner[inside].around if inside in self.inner else inside

    def _siblings(self, inside: str) -> Sequence[str]:
        iteration = self.iterations.get(self.around(inside))
        return () if iteration is None else self.repeats[iteration.repeat].stages

    def _groups(self, inside: str) -> Mapping[str, Sequence[str]]:
        return self.groups.get(self.around(inside), {})

    def _group(self, inside: str) -> Sequence[str]:
        """The stages of the same group, for a stage inside another."""
        return self._groups(inside)[self.inner[inside].group] if inside in self.inner else ()

    def _of_group(self, words: tuple[str, ...], inside: str) -> tuple[str, tuple[str, ...]]:
        """A stage inside the one that refers to it, or what a stage beside it gave the time before."""
        text, group, own = ".".join(words), words[0], self.inner.get(inside)
        stages = self._groups(inside)[group]
        before = words[1:2] == (LAST,) and any(word in stages for word in words[2:3])
        if before and own is not None and own.later and own.group == group:
            return time_before(output_of(replace(own, stage=words[2]))), words[3:]
        if own is not None:
            hint = "put the two in one group" if own.group != group else "name the stage alone, without its group"
            raise BadReference(f"`{text}`: a stage reads others of its own group, of the same time", hint=hint)
        stage = words[1] if len(words) > 1 else ""
        if stage not in stages:
            hint = did_you_mean(stage, stages, otherwise=f"write {group}.{stages[0]}" if stages else "it is empty")
            missing = f"there is no stage `{stage}` in the group {group}" if stage else "it names no stage"
            raise BadReference(f"`{text}`: {missing}", hint=hint)
        return f"{inside}.{group}.{stage}", words[2:]

    def _of_repetition(self, words: tuple[str, ...], inside: str) -> tuple[str, tuple[str, ...]]:
        repetition, text = self.repeats[words[0]], ".".join(words)
        which, stage = words[1] if len(words) > 1 else "", words[2] if len(words) > 2 else ""
        last = f"{repetition.name}.{LAST}"
        if which in repetition.stages:
            raise BadReference(f"`{text}`: {repetition.name} is repeated", hint=f"write {last}.{'.'.join(words[1:])}")
        if which == ALL:
            raise BadReference(f"`{text}` stands for several, which belong in a list", hint=f"write {last}.{stage}")
        if which.isdecimal():
            if int(which[:9]) >= repetition.times:
                message = f"`{text}`: {repetition.name} has {repetition.times} iterations, counted from 0"
                raise BadReference(message, hint=f"the last one is {last}")
            own = self.iterations.get(inside)
            run_before = own.index if own is not None and own.repeat == repetition.name else 0
            if repetition.until is not None and int(which) > run_before:
                message = f"`{text}`: whether there is an iteration {which} is known only while {repetition.name} runs"
                raise BadReference(message, hint=f"write {last}.{stage}")
        elif which != LAST:
            hint = f"write {last}.{repetition.stages[-1]}, or {repetition.name}.0.{repetition.stages[-1]}"
            raise BadReference(f"`{text}` names no iteration of {repetition.name}", hint=hint)
        if stage not in repetition.stages:
            hint = did_you_mean(stage, repetition.stages, otherwise=f"write {last}.{repetition.stages[-1]}")
            missing = f"there is no stage `{stage}` in {repetition.name}" if stage else "it names no stage"
            raise BadReference(f"`{text}`: {missing}", hint=hint)
        return repetition.stage(which if which == LAST else int(which), stage), words[3:]


@dataclass(frozen=True)
class Seen:
    """The names that one stage sees: entries by section, entries of data, stages, and the stage itself."""

    entries: Mapping[str, Mapping[str, Entry]]
    data: Sequence[str]
    stages: StageNames
    stage: Entry | None
    base: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)
    """The entries that all stages share."""

    def begins_with_stage(self, word: str) -> bool:
        """Whether a reference that begins with this word leads to a stage."""
        return self.stages.begins(word, self.stage.name if self.stage is not None else "")

    def inner(self) -> Inner | None:
        """The place of a stage inside another; None for any other."""
        return self.stages.inner.get(self.stage.name) if self.stage is not None else None

    def published(self) -> Mapping[str, tuple[str, str, str]]:
        """The outputs that the stage has from stages inside it, as `StageEntry.published` says."""
        return self.stages.published.get(self.stage.name, {}) if self.stage is not None else {}

    def stage_names(self) -> list[str]:
        """The names of stages that a reference may begin with, for hints."""
        return self.stages.known(self.stage.name if self.stage is not None else "")

    def cut(self, words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The full name of the stage that the words begin with, and the rest; raises `BadReference`."""
        return self.stages.cut(words, self.stage.name if self.stage is not None else "")


def expected_of(wanted: Sequence[type[RefType]]) -> str:
    """In words, where a reference of one of these types must lead."""
    return " or ".join(dict.fromkeys(kind.says for kind in wanted))


__all__ = ["INIT", "NODES", "SECTIONS", "SINGULAR", "BadReference", "Seen", "StageNames", "expected_of"]
