"""The references of one stage: each resolved once, its problems collected."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin.component import Component
from mmflow.plugin.kinds import Stage, Structure, View
from mmflow.plugin.references import Model, Ref, reference_fields
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import TensorType
from mmflow.spec.components.entry import Entry
from mmflow.spec.references.endings import Endings
from mmflow.spec.references.lookup import Lookup
from mmflow.spec.references.names import BadReference, Seen
from mmflow.spec.references.types import Types
from mmflow.spec.references.wanted import references
from mmflow.spec.references.wiring import Wiring
from mmflow.spec.text.problems import Path, Problem, Problems, SpecError


class Resolver(Types):
    """The wiring of one stage as its references make it. Problems are collected in `problems`, each place once."""

    def __init__(self, seen: Seen, fields: Mapping[str, TensorType] | None) -> None:
        super().__init__(fields)
        self.seen = seen
        self.others: Mapping[str, Resolver] = {}
        """The resolvers of all stages, for encoders as another stage left them."""
        self.problems: dict[tuple[Path, Path], Problem] = {}
        self._targets: dict[Owner, dict[Place, Target]] = {}
        self._trained: frozenset[Owner] | None = None
        self._brought: dict[Owner, tuple[str, Wiring] | None] = {}
        self._asking = 0
        self._structures: dict[Owner, Structure | None] = {}
        self._endings = Endings(seen, self, self._endings_of)
        self._lookup = Lookup(seen, self, self._endings)

    def other(self, stage: str) -> Resolver | None:
        return self.others.get(stage)

    def begins(self) -> tuple[str, Resolver] | None:
        # Read from the declaration: the stage's other references may be on their way through here.
        made = self.seen.stage.component if self.seen.stage is not None else None
        for field, types in reference_fields(type(made)).items() if isinstance(made, Stage) else ():
            reference = getattr(made, field)
            if Model in types and isinstance(reference, Ref):
                path = reference.path[1:] if reference.path[0] == "stages" else reference.path
                try:
                    name, _ = self.seen.cut(path)
                except BadReference:
                    # Reported where the reference is resolved.
                    return None
                return (name, self.others[name]) if name in self.others else None
        return None

    def trained(self) -> frozenset[Owner]:
        if self._trained is None:
            made = self.seen.stage.component if self.seen.stage is not None else None
            known = self.seen.entries["losses"]
            names = made.minimized(list(known)) if isinstance(made, Stage) else ()
            self._trained = frozenset()
            self._trained = frozenset(self.reach(*(Owner("losses", name) for name in names if name in known)))
        return self._trained

    def brought(self, owner: Owner) -> tuple[str, Wiring] | None:
        if owner not in self._brought:
            # Stages that begin with each other are reported elsewhere, and must not go round here.
            self._brought[owner] = None
            self._asking += 1
            self._brought[owner] = super().brought(owner)
            self._asking -= 1
        return self._brought[owner]

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
        return self.seen.entries.get(owner.section, {}).get(owner.name)

    def component(self, owner: Owner) -> Component | View | None:
        entry = self.entry(owner)
        return entry.component if entry is not None else None

    def targets(self, owner: Owner) -> Mapping[Place, Target]:
        if owner not in self._targets:
            entry = self.entry(owner)
            found: dict[Place, Target] = {}
            for reference in references(entry.component) if entry is not None else ():
                assert entry is not None
                try:
                    found[reference.place] = self._lookup.resolve(reference, owner)
                except BadReference as bad:
                    place = as_written(entry, reference.place)
                    problem = entry.problem(bad.message, place, found=bad.found, expected=bad.expected, hint=bad.hint)
                    self.report(entry, reference.place, problem)
            self._targets[owner] = found
        return self._targets[owner]

    def sampler_fields(self) -> Mapping[str, TensorType] | None:
        made = self.seen.stage.component if self.seen.stage is not None else None
        if made is None:
            return None
        sampler = made.order() if isinstance(made, Stage) else None
        return sampler.adds if sampler is not None else {}

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
        there = self.others.get(stage)
        return there._endings if there is not None else None


def as_written(entry: Entry, path: Path) -> Path:
    """The path as written: `of: image` stands for a list of one, a memory's for a mapping of one."""
    return path if entry.node.at(path) is not None or not path else path[:-1]
