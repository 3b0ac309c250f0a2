"""`$vars.a.b` and `$env.NAME`: their values, put where they are used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Unpack

from mmflow.redaction import hide
from mmflow.spec.text.document import Node
from mmflow.spec.text.problems import Path, Place, Problem, Words, did_you_mean
from mmflow.spec.text.yaml_reader import MAX_DEPTH, MAX_VALUES

MAX_TEXT: Final = 2**20

_VARIABLE: Final = re.compile(
    r"\$\$|\$\{(?P<braced>[^{}]*)\}|\$(?P<bare>vars(?:\.\w+)+|env\.[A-Za-z_][A-Za-z0-9_]*)|\$(?P<other>\{|[A-Za-z_][\w.]*)"
)
_CIRCLE: Final = "give one of them a value of its own"
_ENV: Final = re.compile(r"env\.([A-Za-z_][A-Za-z0-9_]*)")
_VARS: Final = re.compile(r"vars((?:\.[^.{}\s]+)+)")


class Variables:
    """Fills `$vars` and `$env` into a tree. Every variable is expanded once; its expansion is shared by its uses."""

    def __init__(self, root: Node, env: Mapping[str, str], problems: list[Problem]) -> None:
        self.root, self.env, self.problems = root, env, problems
        self.done: dict[int, Node] = {}
        self.open: list[tuple[int, Place]] = []

    def expanded(self) -> Node:
        assert isinstance(self.root.value, Mapping)
        value: dict[str, Node] = {}
        for name, child in self.root.value.items():
            # a matrix overrides the text of its members before their variables are filled in
            value[name] = child if name == "matrix" else self.expand(child, (name,), 1)
        return self.checked(replace(self.root, value=value), ())

    def report(self, message: str, path: Path, node: Node, **parts: Unpack[Words]) -> None:
        self.problems.append(Problem(message, path, node.mark, node.via, **parts))

    def expand(self, node: Node, path: Path, depth: int) -> Node:
        known = self.done.get(id(node))
        if known is not None:
            return replace(known, key=node.key)
        if isinstance(node.value, str):
            made = self.text(node, node.value, path, depth) if "$" in node.value else node
        elif isinstance(node.value, Mapping):
            entries: dict[str, Node] = {}
            for name, child in node.value.items():
                entries[name] = self.expand(child, (*path, name), depth + 1)
            made = self.checked(replace(node, value=entries), path)
        elif isinstance(node.value, tuple):
            items: list[Node] = []
            for index, child in enumerate(node.value):
                items.append(self.expand(child, (*path, index), depth + 1))
            made = self.checked(replace(node, value=tuple(items)), path)
        else:
            return node
        self.done[id(node)] = made
        return made

    def checked(self, node: Node, path: Path) -> Node:
        """The node, or an empty one after a problem where variables make it too large or too deep."""
        if node.size <= MAX_VALUES and len(path) + node.height <= MAX_DEPTH + 1:
            return node
        if node.size > MAX_VALUES:
            self.report(f"variables expand this to more than {MAX_VALUES} values", path, node, hint="use fewer")
        else:
            self.report(f"variables nest this deeper than {MAX_DEPTH} levels", path, node, hint="flatten it")
        return Node({}, node.mark, node.key)

    def text(self, node: Node, text: str, path: Path, depth: int) -> Node:
        whole = _VARIABLE.fullmatch(text)
        if whole is not None and (name := whole["bare"] or whole["braced"]):
            target = self.value(name, node, path, depth)
            if target is None:
                return node
            return replace(target, key=node.key, via=(*target.via, Place("used at", node.mark), *node.via))
        parts: list[str] = []
        kept: list[str] = []
        names: set[str] = set()
        end = 0

        def add(value: str, written: str | None = None) -> None:
            parts.append(value)
            kept.append(value.replace("$", "$$") if written is None else written)

        for match in _VARIABLE.finditer(text):
            add(text[end : match.start()])
            end = match.end()
            if match.group() == "$$":
                add("$")
            elif match["other"] is not None:
                self.unknown(match.group(), node, path)
            else:
                target = self.value(match["bare"] or match["braced"] or "", node, path, depth)
                if target is None:
                    continue
                if target.value is None or isinstance(target.value, Mapping | tuple):
                    also = (Place("defined at", target.mark),)
                    expected = "a text or a number, to stand inside a text"
                    user = replace(node, via=also)
                    self.report(match.group(), path, user, found=target.shown(), expected=expected)
                    continue
                if isinstance(target.value, str):
                    add(target.value, target.text if target.env else None)
                else:
                    add(target.text or str(target.value))
                names |= target.env
        add(text[end:])
        if sum(len(part) for part in parts) > MAX_TEXT:
            self.report(f"variables make this text longer than {MAX_TEXT} characters", path, node, hint="shorten it")
            return node
        return replace(node, value="".join(parts), text="".join(kept) if names else None, env=frozenset(names))

    def unknown(self, written: str, node: Node, path: Path) -> None:
        name = written.lstrip("${")
        if name.startswith("env"):
            hint = "write $env.NAME"
        else:
            near = did_you_mean(name.split(".")[-1], self.names((), most=12))
            hint = f"write $vars.NAME or $env.NAME, or $$ for a dollar sign; {near}" if near else None
            hint = hint or "write $vars.NAME or $env.NAME, or $$ for a dollar sign"
        self.report(f"{written} is no variable", path, node, hint=hint)

    def names(self, parts: Sequence[str], most: int) -> list[str]:
        node: Node | None = self.root.child("vars")
        for part in parts:
            node = node.child(int(part) if part.isdigit() else part) if node is not None else None
        return list(node.value)[:most] if node is not None and isinstance(node.value, Mapping) else []

    def value(self, name: str, user: Node, path: Path, depth: int) -> Node | None:
        """The value that `vars.a.b` or `env.NAME` stands for; None after a problem."""
        if match := _ENV.fullmatch(name):
            return self.environment(match[1], user, path)
        match = _VARS.fullmatch(name)
        if match is None:
            self.unknown("${" + name + "}", user, path)
            return None
        return self.variable(match[1].split(".")[1:], user, path, depth)

    def environment(self, name: str, user: Node, path: Path) -> Node | None:
        value = self.env.get(name)
        if value is None:
            near = did_you_mean(name, self.env, most=0)
            hint = f"set it: {name}=... mmflow ..."
            self.report(f"the environment has no {name}", path, user, hint=f"{near} or {hint}" if near else hint)
        elif len(value) > MAX_TEXT or any("\ud800" <= char <= "\udfff" for char in value):
            self.report(f"the value of $env.{name} is not UTF-8 text of reasonable length", path, user)
        else:
            hide(name, value)
            return Node(value, user.mark, text=f"${{env.{name}}}", env=frozenset({name}))
        return None

    def variable(self, parts: list[str], user: Node, path: Path, depth: int) -> Node | None:
        if depth + len(self.open) > MAX_DEPTH:
            self.report(f"variables lead through more than {MAX_DEPTH} others", path, user, hint="shorten the chain")
            return None
        node = self.located(parts, user, path, 0)
        if node is None or id(node) in self.done:
            return self.done[id(node)] if node is not None else None
        if any(known == id(node) for known, _ in self.open):
            also = tuple(place for _, place in self.open if place.mark != user.mark)
            self.report(
                f"$vars.{'.'.join(parts)} stands for itself: a circle", path, replace(user, via=also), hint=_CIRCLE
            )
            return None
        self.open.append((id(node), Place("used at", user.mark)))
        made = self.expand(node, ("vars", *parts), depth + 1)
        self.open.pop()
        return made

    def located(self, parts: list[str], user: Node, path: Path, hops: int) -> Node | None:
        """The node that a name leads to, as written; names on the way may stand for other variables."""
        if hops > MAX_DEPTH:
            self.report(f"$vars.{'.'.join(parts)} stands for itself: a circle", path, user, hint=_CIRCLE)
            return None
        node = self.root.child("vars")
        for index, part in enumerate(parts):
            if node is not None and isinstance(node.value, str):
                match = _VARIABLE.fullmatch(node.value)
                name = _VARS.fullmatch((match["bare"] or match["braced"] or "") if match else "")
                if name is not None:
                    node = self.located(name[1].split(".")[1:], user, path, hops + 1)
                    if node is None:
                        return None
            step: str | int = part
            if node is not None and isinstance(node.value, tuple) and part.isascii() and part.isdigit():
                step = int(part[:9])
            node = node.child(step) if node is not None else None
            if node is None:
                self.missing(parts, index, user, path)
                return None
        return node

    def missing(self, parts: list[str], index: int, user: Node, path: Path) -> None:
        name = ".".join(parts)
        if index and not self.names(parts[:index], most=1):
            short = ".".join(parts[:index])
            hint = f"write ${{vars.{short}}} where the name ends before a dot"
            self.report(f"$vars.{name}: vars.{short} has no parts", path, user, hint=hint)
            return
        there = self.names(parts[:index], most=200)
        hint = did_you_mean(parts[index], there, otherwise="define it in `vars`")
        self.report(f"there is no variable vars.{'.'.join(parts[: index + 1])}", path, user, hint=hint)
