"""The plan of a run: its stages in the order in which they can work, each with its key. Torch-free."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mmflow.flow.repeats import Ends
from mmflow.identity.canonical import Json
from mmflow.identity.keys import Keys, Undecided
from mmflow.plugin.component import ComponentError
from mmflow.spec import member_name

if TYPE_CHECKING:
    from mmflow.flow.store import RunStore
    from mmflow.plugin.kinds import Stage
    from mmflow.spec import Matrix, Spec


@dataclass(frozen=True)
class PlannedStage:
    """A stage, the key of its results, the stages that it reads, and whether its results are stored."""

    name: str
    """In the run: that of the spec, with the members of a matrix before it where not all share the stage."""
    declaration: Stage
    key: str
    """Empty while it depends on where a repetition ends."""
    inputs: tuple[str, ...]
    cached: bool
    after: tuple[str, ...]
    """The stages that must be done before: those of `inputs`, and those that decide where a repetition ends."""
    awaits: tuple[str, ...] = ()
    """The repetitions with `until` whose end decides whether, or on what, the stage works."""
    unneeded: str = ""
    """Why a stage of an iteration is not needed, where that is known."""
    stage: str = ""
    """The name in its spec."""
    members: tuple[str, ...] = ("",)
    """The members of a matrix that share the stage; the first one's spec is run."""

    def summary(self) -> dict[str, Json]:
        """Everything as plain data."""
        said: dict[str, Json] = {"name": self.name, "use": self.declaration.use, "key": self.key or None}
        said |= {"reads": [*self.inputs], "stored": self.cached}
        said |= {"awaits": [*self.awaits]} if self.awaits else {}
        return said | ({"unneeded": self.unneeded} if self.unneeded else {})

    @property
    def state(self) -> str:
        """What a run would do with it, in words."""
        if self.unneeded:
            return "not needed"
        return "stored" if self.cached else "to run, unless ended" if self.key and self.awaits else "to run"


@dataclass(frozen=True)
class Plan:
    """Stages in an order in which each comes after those that it reads."""

    stages: tuple[PlannedStage, ...]
    by_member: Mapping[str, Keys]

    @property
    def keys(self) -> Keys:
        """The keys of a plan that is of one spec."""
        (keys,) = self.by_member.values()
        return keys

    def __iter__(self) -> Iterator[PlannedStage]:
        return iter(self.stages)

    def __getitem__(self, name: str) -> PlannedStage:
        return next(stage for stage in self.stages if stage.name == name)

    def settled(self) -> Plan:
        """The same with the keys that are known by now."""
        return replace(self, stages=tuple(replace(one, key=one.key or self._known(one)) for one in self.stages))

    def _known(self, stage: PlannedStage) -> str:
        try:
            return self.by_member[stage.members[0]].stage(stage.stage)
        except Undecided:
            return ""

    def names(self, member: str) -> dict[str, str]:
        """The stages of a member's spec, with their names in the run."""
        return {stage.stage: stage.name for stage in self.stages if member in stage.members}

    def named(self, name: str) -> list[str]:
        """The stages that a word of the command line means: a stage of the run, one of all members, a repetition."""
        found = [
            stage.name
            for stage in self.stages
            if name in (stage.name, stage.stage, *(f"{member}/{stage.stage}" for member in stage.members))
            or stage.stage.startswith(f"{name}.")
        ]
        if not found:
            known = dict.fromkeys(stage.stage for stage in self.stages)
            raise ComponentError(f"--force {name}: no such stage", expected=f"one of: {', '.join(known)}")
        return found

    def equal(self) -> dict[str, str]:
        """Stages that are the very same as an earlier one, whose results they share, with that stage."""
        first: dict[str, str] = {}
        found = {stage.name: first.setdefault(stage.key, stage.name) for stage in self.stages if stage.key}
        return {name: other for name, other in found.items() if name != other}

    def following(self, names: Collection[str]) -> tuple[str, ...]:
        """`names` and every stage that reads one of them, directly or through others."""
        found = set(names)
        for stage in self.stages:
            if found & set(stage.after):
                found.add(stage.name)
        return tuple(stage.name for stage in self.stages if stage.name in found)


def build_plan(spec: Spec, store: RunStore | None = None, forced: Collection[str] = ()) -> Plan:
    """The plan of `spec`; with a `store`, stages whose results are stored there are marked as cached.

    Results of stages that are `forced` tell nothing yet. Raises `ComponentError` where a source cannot be read or
    stages read each other in a circle.
    """
    keys = Keys(spec)
    ends = Ends(spec, keys, store, forced)
    inputs = {name: keys.upstream(name) for name in spec.stages}
    after = {name: ends.before(name, inputs[name]) for name in spec.stages}
    order: dict[str, None] = {}
    while len(order) < len(inputs):
        ready = next((name for name in inputs if name not in order and order.keys() >= set(after[name])), None)
        if ready is None:
            circle = ", ".join(name for name in inputs if name not in order)
            raise ComponentError(
                f"stages read each other in a circle: {circle}", hint="change their `start` or `model`"
            )
        order[ready] = None
    stages: dict[str, PlannedStage] = {}
    for name in order:
        above = [one for other in after[name] for one in stages[other].awaits if other not in ends.iterations(one)]
        awaits = tuple(dict.fromkeys((*above, *ends.awaited(name, inputs[name]))))
        key, unneeded = ends.key(name), ends.unneeded(name)
        cached = bool(key) and not unneeded and store is not None and store.has(key)
        stages[name] = PlannedStage(
            name, spec.stages[name], key, inputs[name], cached, after[name], awaits, unneeded, stage=name
        )
    return Plan(tuple(stages.values()), {"": keys})


def plan_members(matrix: Matrix, store: RunStore | None = None, force: Sequence[str] = ()) -> tuple[Plan, list[str]]:
    """The plan of all members, in which equal stages stand once, and the stages to run though their results are stored.

    `force` names stages as the command line does; with them goes all that reads them.
    """
    plan = _merged(matrix, {member.name: build_plan(member.spec, store) for member in matrix})
    forced = plan.following([stage for name in force for stage in plan.named(name)])
    if forced and any(stage.awaits for stage in plan):
        again = {
            member.name: [stage for stage, name in plan.names(member.name).items() if name in forced]
            for member in matrix
        }
        plan = _merged(matrix, {member.name: build_plan(member.spec, store, again[member.name]) for member in matrix})
    return plan, [*forced]


def _merged(matrix: Matrix, plans: Mapping[str, Plan]) -> Plan:
    """One plan of the plans of all members. Stages with one name and one key are one."""

    def identity(member: str, stage: PlannedStage) -> tuple[str, str]:
        # Whether an iteration is needed, and on which one a stage works, is decided for each member.
        return stage.name, member if stage.awaits or not stage.key else f"key {stage.key}"

    holders: dict[tuple[str, str], list[str]] = {}
    for member, plan in plans.items():
        for stage in plan:
            holders.setdefault(identity(member, stage), []).append(member)
    found: dict[tuple[str, str], PlannedStage] = {}
    for member, plan in plans.items():
        names = {stage.name: _label(matrix, holders[identity(member, stage)], stage.name) for stage in plan}
        for stage in plan:
            found.setdefault(
                identity(member, stage),
                replace(
                    stage,
                    name=names[stage.name],
                    inputs=tuple(names.get(name, name) for name in stage.inputs),
                    after=tuple(names[name] for name in stage.after),
                    members=tuple(holders[identity(member, stage)]),
                ),
            )
    return Plan(
        tuple(found.values()), {member: keys for member, plan in plans.items() for keys in plan.by_member.values()}
    )


def _label(matrix: Matrix, sharing: Sequence[str], stage: str) -> str:
    """The name in a run of a stage that some members share: what these, and no others, have in common before it."""
    if len(sharing) == len(matrix):
        return stage
    first, *others = [matrix.members[name].axes for name in sharing]
    common = {axis: label for axis, label in first.items() if all(other[axis] == label for other in others)}
    having = [member.name for member in matrix if common.items() <= member.axes.items()]
    return f"{member_name(common) if having == [*sharing] else sharing[0]}/{stage}"
