"""The entries of a spec that is being composed, and where references of a type may lead among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmflow.plugin import Component, TensorType
from mmflow.plugin.kinds import Memory, Sampler, View
from mmflow.plugin.references import Bank, Column, Encoded, RefType, Static
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.spec.references.types import Types, main_output
from mmflow.spec.references.wanted import GIVEN_BY, LEADS_TO, fits

MOST_MEMBERS = 2
"""Members of a group that are offered one by one."""


@dataclass(frozen=True)
class Choice:
    """Something that a reference may lead to, as it is written, and its declared type where that is known."""

    text: str
    target: Target
    declared: TensorType | None

    @property
    def row(self) -> str:
        return self.declared.axes[0] if self.declared is not None and self.declared.axes else ""

    @property
    def groups(self) -> tuple[str, ...]:
        return self.declared.axes[1:] if self.declared is not None else ()

    @property
    def width(self) -> int | None:
        return self.declared.size[-1] if self.declared is not None and self.declared.size else None


class World(Types):
    """Entries with the targets of their references. `fields` are those of the data."""

    def __init__(self, fields: Mapping[str, TensorType]) -> None:
        super().__init__(fields)
        self.known: dict[str, TensorType] = dict(fields)
        self.entries: dict[Owner, Component | View] = {}
        self.sampler: Sampler | None = None
        self.varied: set[str] | None = None
        """Fields of the data with several values, each several times; None where they were not counted."""
        self.whole: set[str] = set()
        """Columns of stages with one whole number a row."""
        self.vectors: set[str] = set()
        """Columns of stages with one vector a row."""
        self.values: list[tuple[str, str, str]] = []
        """Outputs of stages so far: the stage, the name of the output, its type (`Column`, `Static`, ...)."""
        self._aims: dict[Owner, Mapping[Place, Target]] = {}

    def add(self, owner: Owner, made: Component | View, targets: Mapping[Place, Target]) -> None:
        self.entries[owner], self._aims[owner] = made, targets

    def remove(self, owner: Owner) -> None:
        for known in (self.entries, self._aims, self._outputs):
            known.pop(owner, None)

    def names(self, section: str) -> list[str]:
        return [owner.name for owner in self.entries if owner.section == section]

    def choices(self, wanted: Sequence[type[RefType]]) -> list[Choice]:
        """Everything that a reference of these types may lead to."""
        sections = {section for one in wanted for section in LEADS_TO[one] if section != "stages"}
        found = [choice for section in sorted(sections) for choice in self._of(section)]
        taken = [choice for choice in found if self._fits(tuple(wanted), choice)]
        given = {name for one in wanted if one in (Column, Static) for name in GIVEN_BY[one]}
        for stage, output, of in self.values:
            if of in given:
                taken.append(Choice(f"{stage}.{output}", Target("stages", stage, output=output), None))
        return list({choice.text: choice for choice in taken}.values())

    def _fits(self, wanted: tuple[type[RefType], ...], choice: Choice) -> bool:
        if choice.target.section == "memories":
            return Bank in wanted
        if choice.target.output is None and Encoded in wanted and choice.target.section == "encoders":
            return True
        return choice.declared is not None and fits(wanted, choice.target, choice.declared)

    def _of(self, section: str) -> Iterator[Choice]:
        if section == "fields":
            for name in self.known:
                yield from self._members(Target("fields", name), self.known[name])
        elif section in ("views", "encoders"):
            for name in self.names(section):
                owner = Owner(section, name)
                known = self.outputs_of(owner) or {}
                main = main_output(section, known)
                for output, declared in known.items():
                    yield from self._members(Target(section, name, output=None if output == main else output), declared)
                if main is None and known and section == "encoders":
                    yield Choice(name, Target(section, name), None)
        elif section == "memories":
            for name in self.names(section):
                made = self.entries[Owner("memories", name)]
                columns = list(made.of) if isinstance(made, Memory) else []
                output = None if len(columns) == 1 else columns[0]
                target = Target("memories", name, output=output)
                yield Choice(str(target), target, self.type_of(target))
        elif section == "sampler" and self.sampler is not None:
            for name, declared in self.sampler.adds.items():
                yield Choice(f"sampler.{name}", Target("sampler", name), declared)

    def _members(self, target: Target, declared: TensorType) -> Iterator[Choice]:
        yield Choice(str(target), target, declared)
        if len(declared.axes) > 1 and not declared.static:
            for index in range(min(MOST_MEMBERS, (declared.groups or (None,))[0] or 0)):
                one = Target(target.section, target.name, index, target.output)
                yield Choice(str(one), one, declared.member())

    # --- as `Types` asks --------------------------------------------------------------------------------

    def component(self, owner: Owner) -> Component | View | None:
        return self.entries.get(owner)

    def targets(self, owner: Owner) -> Mapping[Place, Target]:
        return self._aims.get(owner, {})

    def other(self, stage: str) -> World:
        return self

    def sampler_fields(self) -> Mapping[str, TensorType] | None:
        return self.sampler.adds if self.sampler is not None else {}

    def circle(self, owners: Sequence[Owner]) -> None:
        raise AssertionError(f"composed a circle: {owners}")

    def refused(self, owner: Owner, message: str, hint: str | None = None) -> None:
        """A declaration that does not take its inputs: `check` will say so."""
