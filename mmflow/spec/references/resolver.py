"""The references of one stage: each resolved once, its problems collected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cached_property, partial

from pydantic import BaseModel

from mmflow.plugin.component import Component
from mmflow.plugin.kinds import Application, Encoder, Stage, StageInputs, Structure, View
from mmflow.plugin.modality import check_modalities
from mmflow.plugin.references import Model, Ref, reference_fields
from mmflow.plugin.streams import axis_of, on_axis
from mmflow.plugin.targets import STAGE, Owner, Place, Target
from mmflow.plugin.values import SAMPLE, TensorType
from mmflow.spec.components.classes import VALUES
from mmflow.spec.components.entry import Entry
from mmflow.spec.references.borrowed import borrowed_entry, borrowed_target
from mmflow.spec.references.endings import Endings
from mmflow.spec.references.lookup import Lookup
from mmflow.spec.references.names import INIT, BadReference, Seen
from mmflow.spec.references.replaced import Replaced
from mmflow.spec.references.types import Fields, Types
from mmflow.spec.references.wanted import Wanted, references
from mmflow.spec.references.wiring import Wiring
from mmflow.spec.text.problems import Path, Problem, Problems, SpecError


class Resolver(Types):
    """The wiring of one stage as its references make it. Problems are collected in `problems`, each place once."""

    def __init__(self, seen: Seen, fields: Fields | Callable[[], Fields]) -> None:
        super().__init__(fields)
        self.seen = seen
        self.others: Mapping[str, Resolver] = {}
        """The resolvers of all stages, for encoders as another stage left them."""
        self.problems: dict[tuple[Path, Path], Problem] = {}
        self._targets: dict[Owner, dict[Place, Target]] = {}
        self._written: dict[Owner, dict[Place, Target]] = {}
        self._borrowed: dict[str, Entry] = {}
        """Encoders of other stages' models that entries of this one read, each as an encoder of this stage."""
        self._replaced: Replaced | None = None
        self._given: Mapping[str, TensorType | Mapping[str, TensorType]] | None = None
        self._init: Resolver | None = None
        self._trained: frozenset[Owner] | None = None
        self._brought: dict[Owner, tuple[str, Wiring] | None] = {}
        self._asking = 0
        self._structures: dict[Owner, Structure | None] = {}
        self._endings = Endings(seen, self, self._endings_of)
        self._lookup = Lookup(seen, self, self._endings)

    def other(self, stage: str) -> Resolver | None:
        return self.untrained() if stage == INIT else self.others.get(stage)

    def untrained(self) -> Resolver:
        """The wiring of the entries that all stages share, on the data of this one."""
        if self._init is None:
            seen = Seen(self.seen.base, self.seen.data, self.seen.stages, None, self.seen.base)
            self._init = Resolver(seen, partial(_fields_of, self))
            self._init.others = self.others
        return self._init

    @property
    def stage(self) -> Stage | None:
        """The declaration of the stage; None where it is not valid, and for the untrained model."""
        made = self.seen.stage.component if self.seen.stage is not None else None
        return made if isinstance(made, Stage) else None

    def begins(self) -> tuple[str, Resolver] | None:
        name = self._begun
        return (name, self.others[name]) if name in self.others else None

    @cached_property
    def _begun(self) -> str:
        """The name of the stage that this one begins with or uses; empty where there is none."""
        # Read from the declaration: the stage's other references may be on their way through here.
        made = self.stage
        for field, types in reference_fields(type(made)).items() if made is not None else ():
            value = getattr(made, field) if Model in types else None
            if isinstance(value, BaseModel):
                # The long form: `start: {from: warm, only: [...]}`.
                value = next((Ref(".".join(found.words)) for found in references(value)), None)
            if isinstance(value, Ref):
                path = value.path[1:] if value.path[0] == "stages" else value.path
                try:
                    return self.seen.cut(path)[0]
                except BadReference:
                    # Reported where the reference is resolved.
                    return ""
        return ""

    def takes(self, owner: Owner) -> bool:
        patterns = self.stage.taken() if self.stage is not None else None
        return patterns is None or any(fnmatchcase(str(owner.whole), pattern) for pattern in patterns)

    def given(self) -> Mapping[str, TensorType | Mapping[str, TensorType]]:
        if self._given is None:
            # Stages that need each other's types end here; the circle is told elsewhere.
            self._given = {}
            self._given = self._outputs_given()
        return self._given

    def _outputs_given(self) -> Mapping[str, TensorType | Mapping[str, TensorType]]:
        made = self.stage
        if made is None:
            return {}
        types = {place: known for place, target in self.targets(STAGE).items() if (known := self.type_of(target))}
        said: dict[str, TensorType | Mapping[str, TensorType]] = {}
        try:
            said.update(made.outputs(StageInputs(types, self.fields or {})))
            values = {name: one for name, one in said.items() if isinstance(one, TensorType)}
            fields = [one for one in said.values() if not isinstance(one, TensorType)]
            for one in (values, *fields):
                check_modalities({name: known for name, known in one.items() if known.modality != "unknown"})
        except Exception as error:  # a declaration of a plugin may raise anything
            self.refused(STAGE, f"{made.use} does not fit its inputs: {error}", getattr(error, "hint", "") or None)
        for name, (stage, output, _) in self.seen.published().items():
            there = self.others.get(stage)
            said[name] = (there.given().get(output) if there is not None else None) or TensorType("unknown")
        for name, kind in made.given().items():
            if kind in VALUES and name != "*":
                said.setdefault(name, TensorType("unknown", ("sample",) if kind == "Column" else (name,)))
        return said

    def trained(self) -> frozenset[Owner]:
        if self._trained is None:
            made = self.stage
            known = self.seen.entries["losses"]
            names = made.minimized(list(known)) if made is not None else ()
            self._trained = frozenset()
            self._trained = frozenset(self.reach(*(Owner("losses", name) for name in names if name in known)))
        return self._trained

    def brought(self, owner: Owner) -> tuple[str, Wiring] | None:
        if owner not in self._brought:
            # Stages that begin with each other are reported elsewhere, and must not go round here.
            self._brought[owner] = None
            self._asking += 1
            around = self._around()
            # Which entries the stage around trains may depend on what this one gives.
            self._brought[owner] = super().brought(owner) if around is None else around
            self._asking -= 1
        return self._brought[owner]

    def _around(self) -> tuple[str, Resolver] | None:
        """Of a stage inside another that uses its model as it is then: the stage around it."""
        inner = self.seen.inner()
        wiring: Resolver = self
        for _ in range(len(self.seen.stages.inner)):
            begun = wiring.begins()
            if inner is None or begun is None or begun[0] == inner.around:
                return begun if inner is not None else None
            if begun[0] not in self.seen.stages.inner:
                return None
            wiring = begun[1]
        return None

    def structure(self, owner: Owner) -> Structure | None:
        if owner not in self._structures:
            found = super().structure(owner)
            if self._asking:
                return found
            self._structures[owner] = found
        return self._structures[owner]

    def entry(self, owner: Owner) -> Entry | None:
        if owner.section == "stage":
            return self.seen.stage
        found = self.seen.entries.get(owner.section, {}).get(owner.name)
        return found or (self._borrowed.get(owner.name) if owner.section == "encoders" else None)

    def component(self, owner: Owner) -> Component | View | None:
        entry = self.entry(owner)
        return entry.component if entry is not None else None

    def replaced(self) -> Replaced:
        if self._replaced is None:
            self._replaced = Replaced(self)
            self._replaced = Replaced.of(self)
        return self._replaced

    def outputs_of(self, owner: Owner) -> Mapping[str, TensorType] | None:
        """The same, of an encoder whose inputs are not here those of the one that stands in for it."""
        stand_in = self.replaced().stand_in(owner) if owner not in self._outputs else None
        if stand_in is None:
            return super().outputs_of(owner)
        kept = [(known, dict(known)) for known in (self.problems, self._targets, self._written, self._structures)]
        found, outputs = super().outputs_of(owner), dict(self._outputs)
        if found is None and len(self.problems) > len(kept[0][1]):
            # Nothing else reads what it would read: its inputs need not be here.
            for known, before in kept:
                known.clear()
                known.update(before)  # type: ignore[arg-type]
            self._outputs = {one: known for one, known in outputs.items() if known is not None}
            found = self._outputs[owner] = super().outputs_of(stand_in)
        return found

    def targets(self, owner: Owner) -> Mapping[Place, Target]:
        if owner not in self._targets:
            found = dict(self.written(owner))
            replaced = self.replaced()
            for place, target in found.items():
                if (owner, place[:1]) != (STAGE, ("replace",)):
                    found[place] = replaced.target(owner, target)
            for place, target in found.items():
                if target.stage is not None and owner != STAGE and place[0] != "weights":
                    found[place] = self._borrow(owner, target)
            self._targets[owner] = found
        return self._targets[owner]

    def inputs(self, owner: Owner) -> dict[Place, Target]:
        return {
            place: self._borrow(owner, target) if target.stage is not None else target
            for place, target in super().inputs(owner).items()
        }

    def written(self, owner: Owner) -> Mapping[Place, Target]:
        """The targets of references as they are written, before others stand in for them."""
        if owner not in self._written:
            entry = self.entry(owner)
            found: dict[Place, Target] = {}
            behind = self._applied(owner, entry.component) if entry is not None else None
            for reference in references(entry.component, behind) if entry is not None else ():
                assert entry is not None
                target = self._resolved(entry, reference, owner)
                if target is not None:
                    found[reference.place] = target
            self._written[owner] = found
        return self._written[owner]

    def named(self, owner: Owner) -> Iterator[tuple[Wanted, Owner, tuple[str, ...]]]:
        """The references of an entry with the entries that they begin with, and the words behind the names of these."""
        entry = self.entry(owner)
        for reference in references(entry.component) if entry is not None else ():
            if (found := self._lookup.entry_of(reference, owner)) is not None:
                yield reference, *found

    def resolve(self, reference: Wanted) -> Target | None:
        """The target of one reference of the stage itself; None where it leads nowhere, which is told elsewhere."""
        try:
            return self._lookup.resolve(reference, STAGE)
        except BadReference:
            return None

    def _resolved(self, entry: Entry, reference: Wanted, owner: Owner) -> Target | None:
        try:
            return self._lookup.resolve(reference, owner)
        except BadReference as bad:
            place = as_written(entry, reference.place)
            problem = entry.problem(bad.message, place, found=bad.found, expected=bad.expected, hint=bad.hint)
            self.report(entry, reference.place, problem)
            return None

    def _borrow(self, owner: Owner, target: Target) -> Target:
        """An encoder of another stage's model, as an encoder of this stage that is frozen."""
        if target.section != "encoders":
            return target
        own = borrowed_target(target)
        entry = self.entry(owner)
        if own.name not in self._borrowed and entry is not None:
            self._borrowed[own.name] = borrowed_entry(target, entry)
        return own

    def _applied(self, owner: Owner, made: Component | View | None) -> Encoder | None:
        """The encoder that an application applies, found by `weights` alone: it says what `of` takes."""
        resolver, passed = self, set[tuple[int, Owner]]()
        while isinstance(made, Application) and (id(resolver), owner) not in passed:
            passed.add((id(resolver), owner))
            weights = next(found for found in references(made) if found.place == ("weights",))
            try:
                target = resolver._lookup.resolve(weights, owner)
            except BadReference:
                return None
            there = resolver.other(target.stage) if target.stage is not None else resolver
            if there is None:
                return None
            resolver, owner = there, target.owner
            made = resolver.component(owner)
        return made if passed and isinstance(made, Encoder) and not isinstance(made, Application) else None

    def sampler_fields(self) -> Mapping[str, TensorType] | None:
        if self.seen.stage is None or self.seen.stage.component is None:
            return None
        found: dict[str, TensorType] = {}
        for stream, drawn in self.stage.drawn().items() if self.stage is not None else ():
            axis = axis_of(stream) if stream else SAMPLE
            ahead = f"{stream}." if stream else ""
            found |= {f"{ahead}{name}": on_axis(type_, axis) for name, type_ in drawn.sampler.adds.items()}
        return found

    # ---- problems

    def report(self, entry: Entry, path: Path, problem: Problem) -> None:
        self.problems.setdefault((entry.path, path), problem)
        if len(self.problems) >= Problems.MOST:
            raise SpecError(self.problems.values())

    def refused(self, owner: Owner, message: str, hint: str | None = None) -> None:
        entry = self.entry(owner)
        assert entry is not None
        self.report(entry, (), entry.problem(message, hint=hint))

    def circle(self, owners: list[Owner]) -> None:
        first = min(owners)
        entry = self.entry(first)
        turned = owners[:-1]
        turned = turned[turned.index(first) :] + turned[: turned.index(first)]
        names = " -> ".join(map(str, [*turned, first]))
        if entry is not None and not any(problem.message.startswith("a circle") for problem in self.problems.values()):
            hint = "read a memory, a copy or a detached earlier output instead"
            self.report(entry, ("of",), entry.problem(f"a circle: {names}", ("of",), hint=hint))

    def _endings_of(self, stage: str) -> Endings | None:
        there = self.other(stage)
        return there._endings if there is not None else None


def _fields_of(resolver: Resolver) -> Fields:
    return resolver.fields


def as_written(entry: Entry, path: Path) -> Path:
    """The path as written: `of: image` stands for a list of one, a memory's for a mapping of one."""
    return path if entry.node.at(path) is not None or not path else path[:-1]
