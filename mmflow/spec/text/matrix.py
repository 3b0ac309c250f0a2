"""`matrix`: one text that stands for several specs, its members. Works on the raw text, before variables.

An entry whose value is a list is an axis: the values of a path, one a member (`seed: [0, 1, 2]`). Entries with
mappings are named members, with their overrides (`wide: {vars.dim: 128}`): together they are one more axis. Several
axes multiply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final, NamedTuple

from mmflow.spec.text.document import Node
from mmflow.spec.text.overrides import Override, apply_override
from mmflow.spec.text.problems import Mark, Problem, shown
from mmflow.spec.text.yaml_reader import MAX_DEPTH

MOST_MEMBERS: Final = 256
MOST_VALUES: Final = 64_000
"""Of all members together, so that 256 may have 250 each: checking them takes some seconds."""
NAMED: Final = ""
"""The axis of named members."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
_FEWER: Final = "give fewer values, or split the matrix over several specs with `extends`"
_SHOWN: Final = 6
"""Sizes of axes that a message tells."""
_NOT_OVERRIDDEN: Final = ("matrix", "extends", "mmflow")


class Choice(NamedTuple):
    """One value of an axis: its name in the names of members, and its overrides."""

    axis: str
    label: str
    overrides: tuple[Override, ...]
    mark: Mark


@dataclass(frozen=True)
class Variant:
    """A member as text: its name, the value that it has on each axis, where these are written, and the whole tree."""

    name: str
    axes: Mapping[str, str]
    mark: Mark | None
    root: Node


def read_choices(root: Node, problems: list[Problem]) -> list[list[Choice]]:
    """The axes of the section `matrix`, each with its values; nothing where there is no matrix, or after a problem."""
    node = root.child("matrix")
    if node is None or node.value is None or node.value == {}:
        return []
    before = len(problems)
    if not isinstance(node.value, Mapping):
        hint = "write {NAME: {path: value}} or {path: [value, value]}"
        problems.append(node.problem("", ("matrix",), found=node.shown(), expected="members or axes", hint=hint))
        return []
    if too_many := _too_many(node, root):
        problems.append(too_many)
        return []
    named: list[Choice] = []
    axes: list[list[Choice]] = []
    for name, entry in node.entries().items():
        path = ("matrix", name)
        if isinstance(entry.value, tuple):
            axes.append(_axis(name, entry, problems))
        elif entry.value is None or isinstance(entry.value, Mapping):
            named += _named(name, entry, problems)
        else:
            hint = f"write {name}: [{entry.shown()}] for an axis, or {name}: {{path: value}} for a member"
            expected = "a list of values, or a mapping of overrides"
            problems.append(entry.problem("", path, found=entry.shown(), expected=expected, hint=hint))
    found = [*([named] if named else []), *axes]
    return found if len(problems) == before else []


def _too_many(node: Node, root: Node) -> Problem | None:
    """What is wrong with the number of members, found before any of them is looked at."""
    lengths = [len(entry.value) for entry in node.entries().values() if isinstance(entry.value, tuple)]
    named = len(node.entries()) - len(lengths)
    found = [*([named] if named else []), *lengths]
    count = prod(found)
    sizes = [*map(str, found[:_SHOWN]), *([f"{len(found) - _SHOWN} more"] if len(found) > _SHOWN else [])]
    if count > MOST_MEMBERS:
        told = f"{count:,}" if count < 10**12 else "more than 1,000,000,000,000"
        message = f"{told} members ({' times '.join(sizes)}), and at most {MOST_MEMBERS} can be told apart in a run"
    elif count * root.size > max(MOST_VALUES, root.size):
        message = f"{count:,} members of {root.size:,} values each, and at most {MOST_VALUES:,} are checked together"
    else:
        return None
    return node.problem(message, ("matrix",), (), key=True, hint=_FEWER)


def _named(name: str, entry: Node, problems: list[Problem]) -> Iterator[Choice]:
    path = ("matrix", name)
    if not _NAME.fullmatch(name):
        hint = "use letters, digits, . _ + and -; at most 100"
        problems.append(entry.problem(f"{shown(name)} cannot name a member", path, (), key=True, hint=hint))
        return
    overrides = [_override(key, value, (*path, key), problems) for key, value in entry.entries().items()]
    if None not in overrides:
        yield Choice(NAMED, name, tuple(filter(None, overrides)), entry.key or entry.mark)


def _axis(name: str, entry: Node, problems: list[Problem]) -> list[Choice]:
    path = ("matrix", name)
    assert isinstance(entry.value, tuple)
    if not entry.value:
        problems.append(entry.problem("an axis without values", path, hint="give values, or leave the axis out"))
    labels = _labels(entry.value)
    found: list[Choice] = []
    for index, (value, label) in enumerate(zip(entry.value, labels, strict=True)):
        override = _override(name, value.brought(*entry.via), path, problems)
        if override is None:
            return []
        same = next((i for i, other in enumerate(entry.value[:index]) if other.plain() == value.plain()), None)
        if same is not None:
            message = f"the axis has {shown(value.plain())} twice"
            problems.append(entry.problem(message, path, (index,), hint="leave one of them out"))
        found.append(Choice(name, label, (override,), value.mark))
    return found


def _override(name: str, value: Node, at: tuple[str, ...], problems: list[Problem]) -> Override | None:
    path = tuple(name.split("."))
    key = value.key or value.mark
    if not all(path) or len(path) > MAX_DEPTH:
        problems.append(Problem("an override is a path such as losses.align.temperature", at, key, found=shown(name)))
        return None
    if path[0] in _NOT_OVERRIDDEN:
        problems.append(Problem(f"`{path[0]}` is one for all members", at, key, hint="override another section"))
        return None
    return Override(path, value, key)


def _labels(values: Sequence[Node]) -> list[str]:
    """A short name for each value, all different."""
    found = [_label(value, index) for index, value in enumerate(values)]
    return [f"{label}-{index}" if found.count(label) > 1 else label for index, label in enumerate(found)]


def _label(value: Node, index: int) -> str:
    use = value.child("use")
    if use is not None:
        return _label(use, index)
    if isinstance(value.value, tuple) and value.value and not any(item.children() for item in value.value):
        return "+".join(_label(item, index) for item in value.value)[:100]
    if isinstance(value.value, Mapping | tuple):
        return str(index)
    written = "null" if value.value is None else value.text or shown(value.value).strip('"')
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "-", written)[:60]
    return re.sub(r"^-+(?![0-9.])|-+$", "", plain) or str(index)


def variants(root: Node, choices: Sequence[Sequence[Choice]], problems: list[Problem]) -> list[Variant]:
    """The members, the last axis moving fastest; a tree without axes is one, without a name."""
    assert isinstance(root.value, Mapping)
    base = Node({name: child for name, child in root.value.items() if name != "matrix"}, root.mark, root.key, root.via)
    found: list[Variant] = []
    for chosen in product(*choices):
        tree = base
        for choice in chosen:
            for override in choice.overrides:
                tree = apply_override(tree, override, problems)
        axes = {choice.axis: choice.label for choice in chosen}
        found.append(Variant(member_name(axes), axes, chosen[0].mark if chosen else None, tree))
    return found


def member_name(axes: Mapping[str, str]) -> str:
    """The name of a member with these values on the axes: `wide,seed=1`."""
    return ",".join(f"{axis}={label}" if axis else label for axis, label in axes.items())


def described(names: Sequence[str]) -> str:
    """The members that a message is about."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"the member{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more}"
