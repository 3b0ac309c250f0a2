"""Named entries: which names may be used, and each entry with its component."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Unpack

from mmflow.plugin.kinds import View
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.renamed import kinds_named, up_to_date
from mmflow.spec.components.validate import find_class, validate_component, validate_model
from mmflow.spec.text.document import Node
from mmflow.spec.text.problems import Parts, Path, Problem, shown

KINDS: Mapping[str, str] = {
    "data": "source",
    "encoders": "encoder",
    "memories": "memory",
    "losses": "loss",
    "parts": "",
    "track": "tracker",
}
"""The kind of each section's entries; of any kind in `parts`."""

MOST = 500
"""Entries at most in one section."""
MOST_STAGES = 200
"""Stages at most in `stages`, and in `eval`: each may begin with the model of the one before."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
_TAKEN = ("fields", "views", "encoders", "memories", "losses", "parts", "stages", "data", "sampler")


def validated(entry: Entry, problems: list[Problem]) -> Entry:
    """The entry with its component, or without one after problems."""
    if entry.section == "views":
        if not isinstance(entry.node.value, Mapping):
            expected = "a mapping such as {of: image, apply: [...]}"
            problems.append(entry.problem("", found=entry.node.shown(), expected=expected))
            return entry
        entry = up_to_date(entry, (View,), problems)
        return replace(entry, component=validate_model(entry, View, entry.node.plain(), problems))
    entry = up_to_date(entry, kinds_named(KINDS[entry.section]), problems)
    component, fields = find_class(entry, KINDS[entry.section], problems)
    if component is None:
        return entry
    return replace(entry, component=validate_component(entry, component, fields, problems))


def named_nodes(node: Node | None, section: str, problems: list[Problem]) -> dict[str, Node]:
    """The named entries of a section."""
    if node is None or node.value is None:
        return {}
    if not isinstance(node.value, Mapping):
        hint = f"write {section}: {{NAME: {{...}}}}"
        problems.append(node.problem("", (section,), found=node.shown(), expected="named entries", hint=hint))
        return {}
    found = {name: child for name, child in node.entries().items() if name_is_good(child, (section, name), problems)}
    most = MOST_STAGES if section in ("stages", "eval") else MOST
    if len(found) > most:
        name, child = list(found.items())[most]
        hint = "split the spec, and let its parts share with `extends`"
        problems.append(at_key(child, (section, name), f"more than {most} entries in `{section}`", hint=hint))
        return dict(islice(found.items(), most))
    return found


def name_is_good(node: Node, path: Path, problems: list[Problem]) -> bool:
    name = str(path[-1])
    if not _NAME.fullmatch(name):
        hint = "use letters, digits, _ and -, beginning with a letter; at most 100"
        problems.append(at_key(node, path, f"{shown(name)} cannot be referred to", hint=hint))
        return False
    if name in _TAKEN or (name == "init" and path[-2] in ("stages", "eval")):
        problems.append(at_key(node, path, f"`{name}` is a word of the language", hint="choose another name"))
        return False
    return True


def at_key(node: Node, path: Path, message: str, **parts: Unpack[Parts]) -> Problem:
    """A problem with the name of an entry."""
    return node.problem(message, path, (), key=True, **parts)
