"""`replace` of a stage: nodes that others stand in for (`{two: plain}`), wherever the stage reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from mmflow.plugin.kinds import DataStage, Stage
from mmflow.plugin.references import words
from mmflow.plugin.targets import STAGE, Owner, Target
from mmflow.plugin.values import TensorType
from mmflow.spec.components.entry import Entry
from mmflow.spec.references.names import Seen
from mmflow.spec.references.types import Fields
from mmflow.spec.references.wanted import Wanted
from mmflow.spec.text.problems import Path, Problem, did_you_mean


class References(Protocol):
    """The references of one stage, as they are written."""

    seen: Seen

    @property
    def stage(self) -> Stage | None: ...
    @property
    def fields(self) -> Fields: ...
    def named(self, owner: Owner) -> Iterator[tuple[Wanted, Owner, tuple[str, ...]]]: ...
    def type_of(self, target: Target) -> TensorType | None: ...
    def report(self, entry: Entry, path: Path, problem: Problem) -> None: ...


@dataclass(frozen=True)
class StandIn:
    """A node that stands in for another, and the entries behind it, in which the other keeps its place."""

    target: Target
    behind: frozenset[Owner]


@dataclass
class Replaced:
    """The nodes that others stand in for, in one stage."""

    references: References
    stand_ins: dict[Owner, StandIn] = field(default_factory=dict)

    @classmethod
    def of(cls, references: References) -> Replaced:
        """Read `replace` of the stage, and report names that it does not have.

        No type is looked at: types depend on what stands in for what.
        """
        found = cls(references)
        made = references.stage
        if not isinstance(made, DataStage) or not made.replace:
            return found
        for reference, owner, rest in references.named(STAGE):
            if reference.place[0] != "replace" or owner.section not in ("encoders", "views", "fields"):
                continue
            index = int(rest[0][:9]) if rest and rest[0].isdecimal() else None
            output = ".".join(word for word in rest[index is not None :] if word != "detach") or None
            target = Target(owner.section, owner.name, index, output, "detach" in rest)
            replaced = found._replaced(str(reference.place[1]), target)
            if replaced is not None:
                found.stand_ins[replaced] = StandIn(target, found._behind(owner))
        return found

    def stand_in(self, owner: Owner) -> Owner | None:
        """The encoder that stands in for another, which no stand-in reads; None where none does."""
        found = self.stand_ins.get(owner)
        behind = (each for one in self.stand_ins.values() for each in one.behind)
        if found is None or found.target.section != "encoders" or owner.section != "encoders" or owner in behind:
            return None
        return found.target.owner if found.target.index is None and found.target.output is None else None

    def target(self, owner: Owner, target: Target) -> Target:
        """The target of a reference inside `owner`, or that which stands in for it there."""
        found = self.stand_ins.get(target.owner) if target.stage is None else None
        if found is None or owner in found.behind:
            return target
        other = found.target
        index = target.index if other.index is None else other.index
        declared = self.references.type_of(replace(other, index=None)) if index is not None else None
        if declared is not None and len(declared.axes) < 2:
            # One member for all: the random copies of a view have one deterministic form.
            index = None
        return replace(other, index=index, output=target.output or other.output, detach=target.detach or other.detach)

    def _replaced(self, name: str, target: Target) -> Owner | None:
        """The entry that is replaced: of the kind of the one that stands in for it."""
        sections = ("encoders",) if target.section == "encoders" else ("views", "fields")
        section, *rest = words(name)
        if section in sections and rest:
            sections, name = (section,), ".".join(rest)
        known: list[str] = []
        for section in sections:
            names = (self.references.fields or ()) if section == "fields" else self.references.seen.entries[section]
            if name in names:
                return Owner(section, name)
            known += names
        stage = self.references.seen.stage
        if stage is not None and (target.section == "encoders" or self.references.fields is not None):
            kind = "encoder" if target.section == "encoders" else "view or field"
            hint = did_you_mean(name, known, most=20)
            problem = stage.problem(f"there is no {kind} `{name}` to replace", ("replace", name), key=True, hint=hint)
            self.references.report(stage, ("replace", name), problem)
        return None

    def _behind(self, owner: Owner) -> frozenset[Owner]:
        """An entry and all entries that it reads, directly or not."""
        found, left = {owner}, [owner]
        while left:
            new = {named for _, named, _ in self.references.named(left.pop())} - found
            found |= new
            left += new
        return frozenset(found)
