"""`repeat`: a scan over stages. Each iteration is written out as stages of its own, called `round.2.fit`.

Values that go from one iteration to the next (`carry.model`) are put into the text of the stages; a name of a stage
inside means that of the same iteration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmflow.plugin.kinds import Stage
from mmflow.plugin.references import NAME, Written, words
from mmflow.spec.components.carried import CARRY, Carrying, check_carried, named_parts
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.named import name_is_good
from mmflow.spec.components.validate import validate_model
from mmflow.spec.text.document import Node
from mmflow.spec.text.problems import Path, Problem

MOST = 100
"""Iterations at most of one `repeat`."""
LAST, ALL = "last", "all"


class Until(BaseModel):
    """When a repetition ends: after `patience` iterations in a row that did not improve on the best one before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(
        pattern=rf"^{NAME.pattern}$", max_length=300, description="a stage inside and its metric, such as dev.accuracy"
    )
    patience: int = Field(1, ge=1, le=MOST)
    at_most: int = Field(ge=1, le=MOST, description="iterations, where the metric goes on improving")


class Repeat(Stage, name="repeat"):
    """Run stages again and again, each iteration with what the one before has given.

    Inside, `carry.NAME` is the current value and a stage's name means that of the same iteration; `next` says the
    values that the next iteration begins with. Outside, `round.2.fit` is a stage of one iteration, `round.last.fit`
    that of the last, and `round.all.fit` in a list stands for those of all. Each iteration draws with a seed of its
    own. With `until` a metric of a stage inside decides, while the run goes on, how many iterations there are.
    """

    example: ClassVar[str] = (
        "{use: repeat, times: 3, carry: {model: base}, stages: {fit: {use: train, start: carry.model, data: train, "
        "epochs: 1}}, next: {model: fit}}"
    )

    times: int | None = Field(None, ge=1, le=MOST, description="how many iterations")
    until: Until | None = None
    carry: dict[str, Written] = Field({}, description="the values that the first iteration begins with")
    stages: dict[str, Written] = Field({}, description="the stages of one iteration")
    next: dict[str, Written] = Field({}, description="the values that the next iteration begins with")

    @model_validator(mode="after")
    def _one_length(self) -> Repeat:
        if (self.times is None) == (self.until is None):
            raise ValueError("give either `times` or `until`")
        return self


@dataclass(frozen=True)
class Iteration:
    """The place of a stage inside a repetition."""

    repeat: str
    index: int
    stage: str


@dataclass(frozen=True)
class Repetition:
    """A stage that repeats others: its iterations 0 to `times` - 1, with `until` at most."""

    name: str
    times: int
    stages: tuple[str, ...]
    until: Until | None

    def stage(self, index: int | str, stage: str) -> str:
        """The full name of a stage of one iteration; `last` is the one at which `until` will have ended it."""
        index = self.times - 1 if index == LAST and self.until is None else index
        return f"{self.name}.{index}.{stage}"

    def open_ends(self) -> dict[str, str]:
        """The names of stages of a last iteration that is found while the run goes on, such as `round.last.fit`.

        Before the end is known, those of the last possible iteration stand for them.
        """
        if self.until is None:
            return {}
        return {self.stage(LAST, stage): self.stage(self.times - 1, stage) for stage in self.stages}

    @property
    def judged(self) -> tuple[str, str]:
        """The stage inside whose metric decides, and the name of that metric."""
        assert self.until is not None
        stage, *metric = words(self.until.metric)
        return stage, ".".join(metric)


@dataclass(frozen=True)
class RepeatEntry:
    """A repetition as it is written."""

    repetition: Repetition
    entry: Entry
    inside: Mapping[str, Node]
    sound: bool
    """False after a problem that leaves open what its stages are."""

    def iterations(self, problems: list[Problem]) -> Iterator[tuple[Iteration, Node]]:
        """Each stage of each iteration, with the carried values put in."""
        written = self.entry.node.entries()
        carried = written["carry"].entries() if "carry" in written else {}
        following = written["next"].entries() if "next" in written else {}
        for index in range(self.repetition.times):
            carrying = Carrying(dict(carried), "times", problems)
            for stage, node in self.inside.items():
                path = (*self.entry.path, "stages", stage)
                yield Iteration(self.repetition.name, index, stage), carrying.into(node, path)
            carried |= {
                name: self._following(carrying.into(node, (*self.entry.path, "next", name)), index)
                for name, node in following.items()
            }

    def listed(self, repeats: Mapping[str, Repetition], problems: list[Problem]) -> RepeatEntry:
        """The same with `listed` stages."""
        path = (*self.entry.path, "stages")
        inside = {name: listed(node, repeats, (*path, name), problems) for name, node in self.inside.items()}
        return replace(self, inside=inside)

    def _following(self, node: Node, index: int) -> Node:
        """A value of `next`, in which the stages inside are those of iteration `index`."""
        if isinstance(node.value, tuple):
            return replace(node, value=tuple(self._following(item, index) for item in node.value))
        if isinstance(node.value, str) and NAME.fullmatch(node.value):
            stage, *rest = words(node.value)
            if stage in self.inside:
                return replace(node, value=".".join((self.repetition.stage(index, stage), *rest)), text=None)
        return node


def is_repeat(node: Node) -> bool:
    use = node.child("use")
    return use is not None and use.value in ("repeat", "stage/repeat")


def read_repeat(name: str, path: Path, node: Node, problems: list[Problem]) -> RepeatEntry | None:
    """A stage that repeats others as it is written; None after a problem that leaves nothing to repeat."""
    entry = Entry("stages", name, path, node)
    before = len(problems)
    own = {part: child for part, child in node.entries().items() if part not in ("use", "carry", "stages", "next")}
    rest = replace(node, value=own)
    made = validate_model(replace(entry, node=rest), Repeat, rest.plain(), problems)
    inside = named_parts(entry, ("stages",), problems) or {}
    carry, following = (named_parts(entry, (part,), problems) for part in (CARRY, "next"))
    if not inside and len(problems) == before:
        hint = "write stages: {fit: {use: train, ...}}"
        problems.append(entry.problem("a repeat without stages repeats nothing", hint=hint))
    for stage, child in list(inside.items()):
        if not name_is_good(child, (*path, "stages", stage), problems):
            del inside[stage]
        elif is_repeat(child):
            hint = "write the two one after another, or let the inner one be a stage of a plugin"
            where = (*path, "stages", stage, "use")
            problems.append(child.problem("a repeat inside a repeat", where[:-1], ("use",), hint=hint))
            del inside[stage]
    check_carried(entry, (), carry, following, problems)
    if made is None or not inside:
        return None
    times = made.times if made.until is None else made.until.at_most
    return RepeatEntry(Repetition(name, times or 1, tuple(inside), made.until), entry, inside, len(problems) == before)


def listed(node: Node, repeats: Mapping[str, Repetition], path: Path, problems: list[Problem]) -> Node:
    """The tree with `round.all.fit` written out as the stages of all iterations."""
    if isinstance(node.value, Mapping):
        entries = {name: listed(child, repeats, (*path, name), problems) for name, child in node.value.items()}
        return replace(node, value=entries)
    if isinstance(node.value, tuple):
        items: list[Node] = []
        for index, child in enumerate(node.value):
            made = listed(child, repeats, (*path, index), problems)
            items += made.value if isinstance(child.value, str) and isinstance(made.value, tuple) else [made]
        return replace(node, value=tuple(items))
    if not isinstance(node.value, str) or f".{ALL}." not in node.value or not NAME.fullmatch(node.value):
        return node
    name, every, *rest = words(node.value)
    repetition = repeats.get(name)
    if every != ALL or repetition is None:
        return node
    if repetition.until is not None:
        hint = f"write {name}.{LAST}.{'.'.join(rest)}, or `times` instead of `until`"
        problems.append(node.problem(f"how many iterations {name} has is known only while it runs", path, hint=hint))
        return node
    return replace(
        node, value=tuple(replace(node, value=".".join((name, str(i), *rest))) for i in range(repetition.times))
    )
