"""A spec as a tree that knows where each of its values is written and how it came there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Unpack

from mmflow.plugin.references import Written
from mmflow.spec.text.problems import Mark, Parts, Path, Place, Problem, shown

MAX_PLACES = 8
"""Places at most through which a value is told to have come: the last ones."""

Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it comes from. Nodes are shared by aliases and variables and never changed.

    `mark` is where the value is written, `key` where its key is, `via` the places through which it came here (an
    alias, the use of a variable, an `extends`). `text` is a number or a word as it was written, or a text with the
    environment variables that it holds, which `env` names. `size` counts the values in the whole tree below, shared
    ones as often as they are reached, and `height` the levels of mappings and lists, 0 for a scalar.
    """

    value: Scalar | Mapping[str, Node] | tuple[Node, ...]
    mark: Mark
    key: Mark | None = None
    via: tuple[Place, ...] = ()
    text: str | None = None
    env: frozenset[str] = frozenset()
    size: int = field(init=False, compare=False)
    height: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        children = self.children()
        object.__setattr__(self, "size", 1 + sum(child.size for _, child in children))
        levels = 1 + max((child.height for _, child in children), default=0)
        object.__setattr__(self, "height", levels if isinstance(self.value, Mapping | tuple) else 0)

    def children(self) -> list[tuple[str | int, Node]]:
        if isinstance(self.value, Mapping):
            return list(self.value.items())
        if isinstance(self.value, tuple):
            return list(enumerate(self.value))
        return []

    def child(self, part: str | int) -> Node | None:
        """The value under a key or an index; None where there is none."""
        if isinstance(self.value, Mapping):
            return self.value.get(str(part))
        if isinstance(self.value, tuple) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]
        return None

    def plain(self) -> Written:
        """The value as dicts, lists and scalars, every shared part a copy of its own."""
        if isinstance(self.value, Mapping):
            return {name: child.plain() for name, child in self.value.items()}
        if isinstance(self.value, tuple):
            return [child.plain() for child in self.value]
        return self.value

    def shown(self) -> str:
        """The value for a message; values from the environment are named and not printed."""
        if self.env and not self.children():
            return " and ".join(f"the value of $env.{name}" for name in sorted(self.env))
        return self.text if self.text else shown(self.plain() if self.size < 1000 else self.value)

    def entries(self) -> dict[str, Node]:
        """The values of a mapping by key, each with the places through which the mapping came; else nothing."""
        if not isinstance(self.value, Mapping):
            return {}
        return {name: child.brought(*self.via) for name, child in self.value.items()}

    def at(self, path: Path) -> Node | None:
        """The node at a path below this one, or None."""
        node: Node | None = self
        for part in path:
            node = node.child(part) if node is not None else None
        return node

    def place(self, path: Path = (), *, key: bool = False) -> tuple[Mark, tuple[Place, ...]]:
        """Where the value at a path is written (`key`: its key) and through which places it came.

        A path that leads further than the tree does is placed at the last value on the way.
        """
        node, via, reached = self, list(self.via), 0
        for part in path:
            child = node.child(part)
            if child is None:
                break
            node, reached = child, reached + 1
            via += [place for place in child.via if place not in via]
        mark = node.key if key and node.key is not None and reached == len(path) else node.mark
        return mark, tuple(place for place in via if place.mark != mark)

    def problem(
        self, message: str, base: Path, path: Path = (), *, key: bool = False, **parts: Unpack[Parts]
    ) -> Problem:
        """A `Problem` at a path below this node, which itself stands at `base` in the spec."""
        mark, also = self.place(path, key=key)
        parts["also"] = (*also, *parts.get("also", ()))
        return Problem(message, (*base, *path), mark, **parts)

    def environment(self, path: Path = ()) -> Iterator[tuple[Path, Node]]:
        """Every path at or below this node whose value holds values of environment variables, and the node there."""
        if self.env:
            yield path, self
        for part, child in self.children():
            yield from child.environment((*path, part))

    def brought(self, *places: Place) -> Node:
        """The same value, come here through further places."""
        return replace(self, via=(*self.via, *places)[-MAX_PLACES:]) if places else self


@dataclass(frozen=True)
class Document:
    """A spec as one tree with places. `files` are all that were read for it, the main one first."""

    root: Node
    origin: str
    files: tuple[str, ...] = ()

    @cached_property
    def data(self) -> dict[str, Written]:
        """The tree as plain dicts, lists and scalars."""
        return self.root.plain()

    def node(self, path: Path) -> Node | None:
        """The node at a path, or None."""
        return self.root.at(path)

    def place(self, path: Path, *, key: bool = False) -> tuple[Mark, tuple[Place, ...]]:
        """`Node.place` from the root."""
        return self.root.place(path, key=key)

    def problem(self, message: str, path: Path, *, key: bool = False, **parts: Unpack[Parts]) -> Problem:
        """A `Problem` at a path of this document, with its places filled in."""
        return self.root.problem(message, (), path, key=key, **parts)
