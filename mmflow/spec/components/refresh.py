"""`refresh`: groups of stages that run inside a stage. Each is written out as a stage, called `fit.em.feats`.

Inside a group a stage's name means that of the same time, and `carry.NAME` the current value. A number that goes on
to the next time is put into the declaration when that time comes; where a reference does, the stages are read a second
time for all times after the first, with what the time before has given (`em.last.mix`) in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from mmflow.plugin.references import NAME, words
from mmflow.spec.components.carried import CARRY, Carrying, check_carried, named_parts
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.named import at_key, name_is_good
from mmflow.spec.components.repeat import LAST, is_repeat
from mmflow.spec.text.document import Node
from mmflow.spec.text.problems import Path, Problem

PARTS = (CARRY, "stages", "next")
"""What is read of a group here, and not by the stage around it."""

_LATER, _BEFORE = "@later", "@last"


@dataclass(frozen=True)
class Inner:
    """The place of a stage inside another."""

    around: str
    """The stage that it runs in."""
    group: str
    stage: str
    later: bool = False
    """Whether it is the form that the stage has from the second time on."""

    @property
    def name(self) -> str:
        """The full name, which no other stage has."""
        return f"{output_of(self)}{_LATER if self.later else ''}"


def output_of(inner: Inner) -> str:
    """The name under which others read what a stage inside another gives at the same time."""
    return f"{inner.around}.{inner.group}.{inner.stage}"


def time_before(name: str) -> str:
    """The name under which stages read what the stage of that name gave the time before."""
    return f"{name}{_BEFORE}"


def bare(name: str) -> str:
    """The name of a stage inside another, of whatever time."""
    return name.partition("@")[0]


@dataclass(frozen=True)
class GroupEntry:
    """A group of stages inside another stage, as it is written."""

    around: str
    name: str
    entry: Entry
    """Of the stage around it."""
    path: Path
    """The place in that entry."""
    inside: Mapping[str, Node]
    carry: Mapping[str, Node]
    following: Mapping[str, Node]
    measured: frozenset[str] = field(default=frozenset())
    """Names of carried numbers that a stage inside gives to the next time."""

    def first(self, problems: list[Problem]) -> Iterator[tuple[Inner, Node, dict[Path, str]]]:
        """Each stage as it is the first time; with the places of numbers that are others the next time."""
        yield from self._stages(self.carry, False, problems)

    def later(self, problems: list[Problem]) -> Iterator[tuple[Inner, Node, dict[Path, str]]]:
        """Each stage as it is from the second time on, where that is another form."""
        carried = {name: self._next(name, node, problems) for name, node in self.carry.items()}
        if any(carried[name] is not node for name, node in self.carry.items()):
            yield from self._stages(carried, True, problems)

    def _stages(
        self, carried: Mapping[str, Node], later: bool, problems: list[Problem]
    ) -> Iterator[tuple[Inner, Node, dict[Path, str]]]:
        for stage, node in self.inside.items():
            carrying = Carrying(carried, "every", problems)
            made = carrying.into(node, (*self.entry.path, *self.path, "stages", stage))
            numbers = {place: name for place, name in carrying.placed.items() if name in self.measured}
            yield Inner(self.around, self.name, stage, later), made, numbers

    def _next(self, name: str, node: Node, problems: list[Problem]) -> Node:
        """What a carried value is from the second time on, as text; the same node where only its number is another."""
        following = self.following.get(name)
        if following is None or name in self.measured or following.value == f"{CARRY}.{name}":
            return node
        if isinstance(following.value, str) and following.value.startswith(f"{CARRY}."):
            path = (*self.entry.path, *self.path, "next", name)
            message = f"`next` gives {name} the value of another one that is carried"
            problems.append(following.problem(message, path, hint="let a stage inside give it"))
            return node
        return self._named(following)

    def _named(self, node: Node) -> Node:
        """A value of `next`, in which the stages inside are those of the time before."""
        if isinstance(node.value, tuple):
            return replace(node, value=tuple(self._named(item) for item in node.value))
        if isinstance(node.value, str) and NAME.fullmatch(node.value) and words(node.value)[0] in self.inside:
            return replace(node, value=f"{self.name}.{LAST}.{node.value}", text=None)
        return node

    def sources(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """By carried number the stage inside that gives the next one, and the words behind its name."""
        found: dict[str, tuple[str, tuple[str, ...]]] = {}
        for name in self.measured:
            stage, *rest = words(str(self.following[name].value))
            found[name] = (stage, tuple(rest))
        return found


def read_groups(entry: Entry, field_: str, problems: list[Problem]) -> dict[str, GroupEntry]:
    """The groups of stages in a field of a stage's entry."""
    found: dict[str, GroupEntry] = {}
    groups = entry.node.child(field_)
    for name, node in groups.entries().items() if groups is not None else ():
        path: Path = (field_, name)
        if not isinstance(node.value, Mapping) or not name_is_good(node, (*entry.path, *path), problems):
            continue
        inside = named_parts(entry, (*path, "stages"), problems)
        if inside == {}:
            hint = "write stages: {score: {use: retrieval, ...}}"
            problems.append(entry.problem(f"the group {name} has no stages", path, key=True, hint=hint))
        good = {
            stage: child for stage, child in (inside or {}).items() if _is_stage(entry, path, stage, child, problems)
        }
        carry, following = (named_parts(entry, (*path, part), problems) for part in (CARRY, "next"))
        check_carried(entry, path, carry, following, problems)
        found[name] = GroupEntry(
            entry.name, name, entry, path, good, carry or {}, following or {},
            frozenset(_numbers(carry or {}, following or {}, good)),
        )  # fmt: skip
    return found


def without_groups(node: Node, field_: str) -> Node:
    """A stage's node with nothing of the stages inside: what the stage itself declares."""
    groups = node.child(field_)
    if groups is None or not isinstance(groups.value, Mapping) or not isinstance(node.value, Mapping):
        return node
    own = {
        name: replace(group, value={part: child for part, child in group.value.items() if part not in PARTS})
        if isinstance(group.value, Mapping)
        else group
        for name, group in groups.value.items()
    }
    return replace(node, value={**node.value, field_: replace(groups, value=own)})


def _is_stage(entry: Entry, group: Path, stage: str, node: Node, problems: list[Problem]) -> bool:
    path = (*entry.path, *group, "stages", stage)
    if not name_is_good(node, path, problems):
        return False
    if stage in (LAST, CARRY):
        problems.append(at_key(node, path, f"`{stage}` is a word of the language", hint="choose another name"))
        return False
    if is_repeat(node):
        hint = "let the group run more often, or let the stage be one of a plugin"
        problems.append(node.problem("a repeat inside a stage that trains", path, ("use",), hint=hint))
        return False
    return True


def _numbers(carry: Mapping[str, Node], following: Mapping[str, Node], inside: Mapping[str, Node]) -> Iterator[str]:
    """Carried values that are no references, and that a stage inside gives to the next time."""
    for name, node in carry.items():
        value = following[name].value if name in following else None
        measured = isinstance(value, str) and NAME.fullmatch(value) and words(value)[0] in inside
        if measured and node.value is not None and not isinstance(node.value, str | Mapping):
            yield name
