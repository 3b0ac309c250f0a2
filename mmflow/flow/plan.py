"""The plan of a run: its stages in the order in which they can work, each with its key. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from mmflow.flow.repeats import end_of, ended_with
from mmflow.identity.canonical import Json
from mmflow.identity.keys import Keys, Undecided
from mmflow.plugin.component import ComponentError
from mmflow.plugin.references import words

if TYPE_CHECKING:
    from mmflow.flow.store import RunStore
    from mmflow.plugin.kinds import Stage
    from mmflow.spec import Spec

T = TypeVar("T")


@dataclass(frozen=True)
class PlannedStage:
    """A stage, the key of its results, the stages that it reads, and whether its results are stored."""

    name: str
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
    keys: Keys

    def __iter__(self) -> Iterator[PlannedStage]:
        return iter(self.stages)

    def __getitem__(self, name: str) -> PlannedStage:
        return next(stage for stage in self.stages if stage.name == name)

    def settled(self) -> Plan:
        """The same with the keys that are known by now."""
        return replace(self, stages=tuple(replace(one, key=one.key or self._known(one.name)) for one in self.stages))

    def _known(self, name: str) -> str:
        try:
            return self.keys.stage(name)
        except Undecided:
            return ""

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
    ends = _Ends(spec, keys, store, forced)
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
        stages[name] = PlannedStage(name, spec.stages[name], key, inputs[name], cached, after[name], awaits, unneeded)
    return Plan(tuple(stages.values()), keys)


class _Ends:
    """Repetitions whose metrics decide where they end, as far as the store tells."""

    def __init__(self, spec: Spec, keys: Keys, store: RunStore | None, forced: Collection[str]) -> None:
        self.spec, self.keys, self.store, self.forced = spec, keys, store, forced
        self.open = {name: one for name, one in spec.repeats.items() if one.until is not None}
        self.known: dict[str, int] = {}

    def iterations(self, repeat: str) -> list[str]:
        return [name for name, iteration in self.spec.iterations.items() if iteration.repeat == repeat]

    def awaited(self, name: str, inputs: Collection[str]) -> list[str]:
        """The repetitions of which a stage is a later iteration, or reads the last one."""
        iteration = self.spec.iterations.get(name)
        inside = [iteration.repeat] if iteration is not None and iteration.index else []
        read = [words(stage)[0] for stage in inputs if stage not in self.spec.stages]
        return [repeat for repeat in (*inside, *read) if repeat in self.open]

    def before(self, name: str, inputs: Collection[str]) -> tuple[str, ...]:
        """The stages that must be done before a stage can begin."""
        found = dict.fromkeys(stage for stage in inputs if stage in self.spec.stages)
        iteration = self.spec.iterations.get(name)
        for repeat in self.awaited(name, inputs):
            repetition, inside = self.open[repeat], iteration is not None and iteration.repeat == repeat
            count = iteration.index if inside and iteration is not None else repetition.times
            found |= dict.fromkeys(repetition.stage(index, repetition.judged[0]) for index in range(count))
            ends = repetition.open_ends()
            read = [words(stage)[-1] for stage in inputs if stage in ends]
            found |= dict.fromkeys(
                repetition.stage(index, stage) for stage in read for index in range(repetition.times)
            )
        return tuple(stage for stage in self.spec.stages if stage in found)

    def end(self, repeat: str) -> int | None:
        """The last iteration of a repetition, where stored metrics tell."""
        if repeat not in self.known and self.store is not None:
            store, repetition = self.store, self.open[repeat]
            judges = [repetition.stage(index, repetition.judged[0]) for index in range(repetition.times)]
            fresh = next((index for index, judge in enumerate(judges) if judge in self.forced), None)
            found = self.asked(lambda: end_of(repetition, self.keys, store, fresh))
            if found is not None:
                self.known[repeat] = found
                self.keys.ended(repeat, found)
        return self.known.get(repeat)

    def asked(self, question: Callable[[], T]) -> T | None:
        """The answer to a question about keys; None where it depends on a repetition that has not ended."""
        while True:
            try:
                return question()
            except Undecided as undecided:
                if self.end(undecided.repeat) is None:
                    return None

    def key(self, name: str) -> str:
        """The key of a stage; empty where it is not known yet."""
        return self.asked(lambda: self.keys.stage(name)) or ""

    def unneeded(self, name: str) -> str:
        iteration = self.spec.iterations.get(name)
        if iteration is None or iteration.repeat not in self.open:
            return ""
        end = self.end(iteration.repeat)
        return ended_with(iteration.repeat, end) if end is not None and iteration.index > end else ""
