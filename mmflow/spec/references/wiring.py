"""How the entries of one stage are wired: where `weights` lead, what an encoder reads, which entries a stage needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from mmflow.plugin.component import Component, Shared, nested_components
from mmflow.plugin.kinds import Application, Encoder, Lora, Origin, Structure, View
from mmflow.plugin.numbers import BatchValue
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import Argument

_PROJECTIONS = (("head",), ("tokens",))

_BESIDE = ("losses", "parts")
"""Sections whose entries are needed in no order."""

_OF_THE_STAGE = ("of", "rows", "passes", "init", "freeze", "lr_scale", "constrain")
"""Fields of an encoder that say how a stage uses it, and not what its module is."""


class Link(NamedTuple):
    """One step on the way of `weights`: an encoder, and the stage whose wiring knows it (None: where it began)."""

    wiring: Wiring
    owner: Owner
    encoder: Encoder
    stage: str | None


class Wiring(ABC):
    """Answers about the entries of one stage, from their components and the targets of their references."""

    @abstractmethod
    def other(self, stage: str) -> Wiring | None:
        """The wiring of another stage, for encoders of its model."""

    @abstractmethod
    def component(self, owner: Owner) -> Component | View | None:
        """The declaration behind an owner; None where there is none, or none that is valid."""

    @abstractmethod
    def targets(self, owner: Owner) -> Mapping[Place, Target]:
        """The targets of all references inside an entry by their places; those that lead nowhere are left out."""

    @abstractmethod
    def circle(self, owners: list[Owner]) -> None:
        """Report entries that need each other; the last one is the first again."""

    def begins(self) -> tuple[str, Wiring] | None:
        """The stage whose model this one begins with or uses, with its wiring; None for an untrained model."""
        return None

    def trained(self) -> frozenset[Owner]:
        """The entries that the losses of the stage reach: those that its model has of its own."""
        return frozenset()

    def models(self) -> Iterator[tuple[str, Wiring]]:
        """The stages whose models came before, the newest first: each begins with the next. A circle ends them."""
        wiring: Wiring = self
        seen = {id(self)}
        while (found := wiring.begins()) is not None:
            wiring = found[1]
            if id(wiring) in seen:
                return
            seen.add(id(wiring))
            yield found

    def brought(self, owner: Owner) -> tuple[str, Wiring] | None:
        """The newest stage whose model brings the module of an encoder of this stage; None where it is made here."""
        wiring: Wiring = self
        for stage, there in self.models():
            if not wiring.takes(owner):
                return None
            if owner in there.trained() and there.module(owner) == owner:
                return stage, there
            wiring = there
        return None

    def takes(self, owner: Owner) -> bool:
        """Whether the stage takes over an entry of the model that it begins with."""
        return True

    def applied(self, owner: Owner) -> Iterator[Link]:
        """The encoders on the way of `weights`, from `owner` to the one that is built; cut where it leads nowhere."""
        wiring: Wiring = self
        stage: str | None = None
        seen: set[tuple[int, Owner]] = set()
        while (id(wiring), owner) not in seen:
            seen.add((id(wiring), owner))
            made = wiring.component(owner)
            if not isinstance(made, Encoder):
                return
            yield Link(wiring, owner, made, stage)
            if not isinstance(made, Application):
                return
            target = wiring.targets(owner).get(("weights",))
            if target is None:
                return
            if target.stage is not None:
                stage = target.stage
                there = self.other(stage)
                if there is None:
                    return
                wiring = there
            owner = target.owner

    def structure(self, owner: Owner) -> Structure | None:
        """Where `weights` lead; None where there is no encoder at the end, or none that is known."""
        links = list(self.applied(owner))
        if not links or isinstance(links[-1].encoder, Application):
            return None
        own = [link.owner for link in links if link.stage is None]
        adapters = next((link.encoder.lora for link in links if link.stage is None and link.encoder.lora), None)
        first = next((link for link in links if link.stage is not None), None)
        if first is None or first.stage is None:
            return self._made_or_brought(own[-1], _adapted(links[-1].encoder, adapters))
        there = first.wiring.structure(first.owner)
        if there is None:
            return None
        origin = Origin(first.stage, first.wiring.module(first.owner), there.owner)
        return Structure(own[-1], _adapted(there.encoder, adapters), origin)

    def _made_or_brought(self, owner: Owner, encoder: Encoder) -> Structure:
        """An encoder as it is declared here, or as the model that the stage begins with has it."""
        found = self.brought(owner)
        made = found[1].structure(owner) if found is not None else None
        if found is None or made is None or not differing(made.encoder, encoder):
            return Structure(owner, encoder)
        return Structure(owner, _adapted(made.encoder, encoder.lora), Origin(found[0], owner, made.owner))

    def module(self, owner: Owner) -> Owner:
        """The entry of this stage whose module runs `owner`: itself, or the one whose very weights it applies."""
        for link in self.applied(owner):
            if link.stage is not None:
                break
            owner = link.owner
            if not isinstance(link.encoder, Application) or link.encoder.shares != "module":
                break
        return owner

    def trains(self, owner: Owner) -> bool:
        """Whether a gradient may reach the weights that run an encoder."""
        for link in self.applied(owner):
            if isinstance(link.encoder, Application) and (link.encoder.shares != "module" or not link.encoder.trains):
                return link.encoder.trains
        return True

    def inputs(self, owner: Owner) -> dict[Place, Target]:
        """The targets of `of`; an application without `of` reads what its structure reads."""
        found = _of(self.targets(owner))
        for link in self.applied(owner):
            found = _of(link.wiring.targets(link.owner))
            if link.stage is not None:
                found = {place: _elsewhere(target, link.stage) for place, target in found.items()}
            if link.encoder.of:
                break
        return found

    def gathered(self, owner: Owner) -> dict[Place, Target]:
        """The targets of `rows`; an application without `of` takes the rows that its structure takes."""
        found: dict[Place, Target] = {}
        for link in self.applied(owner):
            found = {place: t for place, t in link.wiring.targets(link.owner).items() if place[0] == "rows"}
            if link.stage is not None:
                found = {place: _elsewhere(target, link.stage) for place, target in found.items()}
            if link.encoder.of or link.encoder.rows:
                break
        return found

    def held(self, owner: Owner) -> Iterator[tuple[Place, Component]]:
        """The components in the fields of an entry, shared ones as the entry that they lead to."""
        made = self.component(owner)
        for name, info in type(made).model_fields.items() if made is not None else ():
            place, value = (info.alias or name,), getattr(made, name)
            if isinstance(value, Shared):
                target = self.targets(owner).get(place)
                value = self.shared(target) if target is not None else None
            if isinstance(value, Component):
                yield place, value

    def shared(self, target: Target) -> Component | None:
        """The component that a dotted path leads to; a path that leads to another path is followed on."""
        made = self.component(target.owner)
        for name in target.field:
            made = getattr(made, name, None)
        if isinstance(made, Shared):
            further = self.targets(target.owner).get(target.field)
            return self.shared(further) if further is not None else None
        return made if isinstance(made, Component) else None

    def emits(self, owner: Owner) -> tuple[str, ...]:
        """Names that the module of an encoder emits, components in its fields included; of its head for a `head`."""
        behind = self.structure(owner.whole)
        if behind is None:
            return ()
        own = behind.encoder.head if owner.part == "head" else behind.encoder if not owner.part else None
        names = [
            name for place, made in nested_components(own) if place[:1] not in _PROJECTIONS for name in made.emits()
        ]
        if not owner.part:
            held = [made for place, made in self.held(behind.owner) if place not in _PROJECTIONS]
            names += [name for made in held for name in made.emits()]
        return tuple(dict.fromkeys(names))

    def reach(self, *owners: Owner) -> tuple[Owner, ...]:
        """All entries that the owners need, each after those that must come before it; circles are reported and cut."""
        done: dict[_Need, None] = {}
        queue = [_Need(owner) for owner in owners]
        while queue:
            self._visit(queue.pop(0), done, [], queue)
        return tuple(dict.fromkeys(need.owner for need in done if need.owner.section != "stage"))

    def _visit(self, need: _Need, done: dict[_Need, None], path: list[_Need], queue: list[_Need]) -> None:
        if need in done:
            return
        if need in path:
            self.circle([found.owner for found in (*path[path.index(need) :], need)])
            return
        path.append(need)
        before, beside = self._needs(need)
        for other in before:
            self._visit(other, done, path, queue)
        path.pop()
        done[need] = None
        queue += [other for other in beside if other not in done and _Need(other.owner) not in done]

    def _needs(self, need: _Need) -> tuple[list[_Need], list[_Need]]:
        """The entries that must come before an entry, and those that it needs in no order (a memory's old state)."""
        before: list[_Need] = []
        beside: list[_Need] = []
        inside = self.targets(need.owner).items()
        targets = [target for place, target in inside if place[: len(need.field)] == need.field]
        if need.owner.section == "encoders":
            targets += (*self.inputs(need.owner).values(), *self.gathered(need.owner).values())
        for target in targets:
            if target.section in ("stages", "data", "sampler") or target.stage is not None:
                continue
            if target.owner == need.owner and not target.field:
                continue
            soft = (target.section == "memories" and not target.after) or target.section in _BESIDE
            if target.section in _BESIDE and isinstance(self.shared(target), BatchValue):
                # What a number of the batch reads runs before the number does.
                soft = False
            (beside if soft else before).append(_Need(target.owner, target.field))
        return before, beside


class _Need(NamedTuple):
    """An entry, or one field of it, with the references inside that field."""

    owner: Owner
    field: Place = ()


def _adapted(encoder: Encoder, adapters: Lora | None) -> Encoder:
    """An encoder with further adapters, where there are some."""
    return encoder if adapters in (None, encoder.lora) else encoder.model_copy(update={"lora": adapters})


def differing(a: Encoder, b: Encoder) -> list[str]:
    """The fields in which two declarations stand for different modules: `use`, or fields that shape them."""
    if type(a) is not type(b):
        return ["use"]
    names = [name for name in type(a).model_fields if name not in _OF_THE_STAGE]
    return [name for name in names if _differs(getattr(a, name), getattr(b, name))]


def _differs(a: Argument, b: Argument) -> bool:
    return bool(differing(a, b)) if isinstance(a, Encoder) and isinstance(b, Encoder) else a != b


def _of(targets: Mapping[Place, Target]) -> dict[Place, Target]:
    return {place: target for place, target in targets.items() if place[0] == "of"}


def _elsewhere(target: Target, stage: str) -> Target:
    """An input of another stage's encoder as this one sees it: fields and views by name, encoders as that stage's."""
    if target.section in ("encoders", "memories") and target.stage is None:
        return replace(target, stage=stage)
    return target
