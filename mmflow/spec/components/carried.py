"""Values that go from one time to the next (`carry.model`), put into the text of the stages that are repeated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mmflow.spec.components.entry import Entry
from mmflow.spec.components.named import at_key
from mmflow.spec.text.document import Node
from mmflow.spec.text.problems import Path, Place, Problem, did_you_mean

CARRY = "carry"

_CARRIED = re.compile(r"carry\.([A-Za-z_][\w-]*)((?:\.[\w-]+)*)")


class Carrying:
    """Puts carried values where they are named; in a list nothing is left of null, and a list is joined.

    `beside` is a field beside which `carry` is written, for hints.
    """

    def __init__(self, carried: Mapping[str, Node], beside: str, problems: list[Problem]) -> None:
        self.carried, self.beside, self.problems = carried, beside, problems
        self.placed: dict[Path, str] = {}
        """The places, in the trees that result, where carried values stand as they are."""

    def into(self, node: Node, path: Path, to: Path = (), kept: frozenset[str] = frozenset()) -> Node:
        """The tree at `path` of the spec with the values put in, `to` its place in the one that results.

        Values of the names `kept` are carried by stages further inside.
        """
        if isinstance(node.value, Mapping):
            own = kept | (_carried_by(node) if "stages" in node.value else frozenset())
            entries = {
                name: self.into(child, (*path, name), (*to, name), kept if name == CARRY else own)
                for name, child in node.value.items()
            }
            return replace(node, value=entries)
        if isinstance(node.value, tuple):
            return replace(node, value=tuple(self._items(node.value, path, to, kept)))
        match = _CARRIED.fullmatch(node.value) if isinstance(node.value, str) else None
        return node if match is None or match[1] in kept else self._value(node, match[1], match[2], path, to)

    def _items(self, items: Sequence[Node], path: Path, to: Path, kept: frozenset[str]) -> list[Node]:
        found: list[Node] = []
        for index, child in enumerate(items):
            made = self.into(child, (*path, index), (*to, len(found)), kept)
            if made is child or not isinstance(child.value, str):
                found.append(made)
            elif made.value is not None:
                found += made.value if isinstance(made.value, tuple) else [made]
        return found

    def _value(self, node: Node, name: str, parts: str, path: Path, to: Path) -> Node:
        value = self.carried.get(name)
        if value is None:
            hint = did_you_mean(name, self.carried, otherwise=f"write carry: {{{name}: ...}} beside `{self.beside}`")
            self.problems.append(node.problem(f"`{name}` is not carried", path, hint=hint))
            return replace(node, value=None)
        if parts and value.value is not None and not isinstance(value.value, str):
            message = f"carry.{name} has no parts"
            self.problems.append(node.problem(message, path, found=value.shown(), hint=f"write carry.{name}"))
            return replace(node, value=None)
        if not parts:
            self.placed[to] = name
        made = f"{value.value}{parts}" if isinstance(value.value, str) else value.value
        via = (Place("carried from", value.mark), *node.via)
        return replace(value, value=made, mark=node.mark, key=node.key, via=via, text=None)


def _carried_by(node: Node) -> frozenset[str]:
    own = node.child(CARRY)
    return frozenset(own.entries()) if own is not None else frozenset()


def check_carried(
    entry: Entry,
    above: Path,
    carry: Mapping[str, Node] | None,
    following: Mapping[str, Node] | None,
    problems: list[Problem],
) -> None:
    """Whether every value of `carry` has one of `next`, and no other; `above` is their place in the entry."""
    if carry is None or following is None:
        return
    path = (*entry.path, *above)
    for value, child in following.items():
        if value not in carry:
            hint = did_you_mean(value, carry, otherwise=f"begin with carry: {{{value}: ...}}")
            message = f"`next` says `{value}`, which is not carried"
            problems.append(at_key(child, (*path, "next", value), message, hint=hint))
    for value, child in carry.items():
        if value not in following:
            message = f"`{value}` is carried, and `next` does not say what it is the next time"
            hint = f"write next: {{{value}: STAGE}}, or {value}: carry.{value} where it stays"
            problems.append(at_key(child, (*path, CARRY, value), message, hint=hint))


def named_parts(entry: Entry, path: Path, problems: list[Problem]) -> dict[str, Node] | None:
    """The named stages or values at a place of an entry; None after a problem."""
    node = entry.node.at(path)
    if node is None or node.value is None:
        return {}
    if not isinstance(node.value, Mapping):
        expected = "named stages" if path[-1] == "stages" else "a mapping of names to values"
        problems.append(entry.problem("", path, found=node.shown(), expected=expected))
        return None
    return node.entries()
