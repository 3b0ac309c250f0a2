"""Overrides from the command line: `a.b.c=value` on the text of a spec, before its variables are filled in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mmflow.spec.text.document import Node
from mmflow.spec.text.problems import Mark, Place, Problem, did_you_mean, dotted, shown
from mmflow.spec.text.yaml_reader import MAX_DEPTH, read_tree

_UNNAMED = ("vars", "report", "train")
"""Sections without named entries."""
_BEGIN = ("use", "of")
"""Fields that a new entry may be begun with."""


@dataclass(frozen=True)
class Override:
    path: tuple[str, ...]
    value: Node
    mark: Mark


def member_of(text: str, members: Iterable[str]) -> str:
    """The member that an override is for, such as `wide:train.epochs=2`; empty where it is for all."""
    return max((name for name in members if name and text.startswith(f"{name}:")), key=len, default="")


def parse_override(text: str, problems: list[Problem], members: Sequence[str] = ()) -> Override | None:
    """The override that a text says; None after a problem. `members` are those of the spec's matrix."""
    mark = Mark(f"--set {text if len(text) <= 80 else text[:77] + '...'}")
    member = member_of(text, members)
    text = text[len(member) + 1 :] if member else text
    where, equals, written = text.partition("=")
    path = tuple(where.strip().split("."))
    if ":" in where or ("," in path[0] and ":" in text):
        member = text.partition(":")[0]
        hint = did_you_mean(member, members, otherwise="this spec has no matrix" if not members else None)
        problems.append(Problem(f"there is no member {shown(member)}", mark=mark, hint=hint))
        return None
    if not equals or not all(path) or len(path) > MAX_DEPTH:
        problems.append(Problem("an override is written a.b.c=value", mark=mark, found=shown(text)))
        return None
    if path[0] == "extends":
        problems.append(Problem("`extends` belongs in a file", mark=mark, hint="write a small spec that extends both"))
        return None
    if not written.strip():
        hint = f"write {where}=null to remove it, {where}='\"\"' for an empty text"
        problems.append(Problem("the override has no value", path, mark, hint=hint))
        return None
    found: list[Problem] = []
    value = read_tree(written, mark.file, found)
    problems += [replace(problem, path=path + problem.path, mark=mark, also=()) for problem in found]
    return None if value is None or found else Override(path, _marked(value, mark), mark)


def _marked(node: Node, mark: Mark) -> Node:
    """The tree with one mark for all of it: an override has no lines."""
    if isinstance(node.value, Mapping):
        value = {name: _marked(child, mark) for name, child in node.value.items()}
        return replace(node, value=value, mark=mark, key=mark, via=())
    if isinstance(node.value, tuple):
        return replace(node, value=tuple(_marked(child, mark) for child in node.value), mark=mark, key=mark, via=())
    return replace(node, mark=mark, key=mark, via=())


def apply_override(root: Node, override: Override, problems: list[Problem]) -> Node:
    """The tree with one override applied; unchanged after a problem."""
    path, value, mark = override.path, override.value, override.mark
    trail: list[tuple[Node, str | int]] = []
    node: Node = root
    missing: tuple[str, ...] = ()
    for depth, part in enumerate(path):
        place = Place("the value is at", node.mark)
        if isinstance(node.value, tuple):
            if not part.isascii() or not part.isdigit() or int(part[:9]) >= len(node.value):
                expected = f"an index from 0 to {len(node.value) - 1}" if node.value else "an empty list to stay so"
                message = f"{dotted(path[:depth])} is a list"
                problems.append(Problem(message, path, mark, (place,), found=shown(part), expected=expected))
                return root
            trail.append((node, int(part)))
            node = node.value[int(part)]
        elif isinstance(node.value, Mapping):
            trail.append((node, part))
            if part not in node.value:
                missing = path[depth + 1 :]
                if depth == 1 and missing and missing[0] not in _BEGIN and path[0] not in _UNNAMED:
                    message = f"there is no {shown(part)} in `{path[0]}` to override"
                    hint = did_you_mean(part, node.value, otherwise=f"`{path[0]}` has no entry")
                    problems.append(Problem(message, path[:2], mark, (place,), hint=hint))
                    return root
                break
            node = node.value[part]
        else:
            message = f"{dotted(path[:depth])} is {node.shown()} and has no {shown(part)}"
            hint = f"set the whole of it: --set {dotted(path[:depth])}='{{...}}'"
            problems.append(Problem(message, path, mark, (place,), hint=hint))
            return root
    else:
        # of several overrides of one value, the last names what stands in the file
        value = value.brought(*(node.via if node.mark.line == 0 else (Place("in place of", node.mark),)))
        if value.value is None:
            return _rebuilt(trail, None)
    for part in reversed(missing):
        value = Node({part: value}, mark, key=mark)
    if len(path) + value.height > MAX_DEPTH:
        problems.append(Problem(f"nested deeper than {MAX_DEPTH} levels", path[:4], mark, hint="flatten it"))
        return root
    return _rebuilt(trail, value)


def _rebuilt(trail: list[tuple[Node, str | int]], value: Node | None) -> Node:
    """The root after the value at the end of the trail was replaced, or removed where it is None."""
    for index in range(len(trail) - 1, -1, -1):
        node, part = trail[index]
        if isinstance(node.value, Mapping):
            entries = dict(node.value)
            if value is None:
                entries.pop(str(part))
            else:
                key = entries[str(part)].key if str(part) in entries else value.key
                entries[str(part)] = replace(value, key=key)
            value = replace(node, value=entries)
        elif isinstance(node.value, tuple) and isinstance(part, int):
            items = [*node.value[:part], *([] if value is None else [value]), *node.value[part + 1 :]]
            value = replace(node, value=tuple(items))
    assert value is not None
    return value
