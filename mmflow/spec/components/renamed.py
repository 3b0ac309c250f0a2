"""Names that have changed: an entry as it would be written today, with a note for each old name in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mmflow.plugin import registry as registries
from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.kinds import View
from mmflow.plugin.references import Ref, Written
from mmflow.spec.components.classes import class_of, field_of, models_in
from mmflow.spec.components.entry import Entry
from mmflow.spec.text.document import Node
from mmflow.spec.text.problems import Path, Problem


def up_to_date(entry: Entry, kinds: tuple[type[BaseModel], ...], problems: list[Problem]) -> Entry:
    """The entry with today's names of components and fields; `kinds` are those that it may be of."""
    notes: list[Problem] = []
    node = _value(entry, entry.node, kinds, (), notes)
    problems += notes
    return replace(entry, node=node) if notes else entry


def kinds_named(name: str) -> tuple[type[BaseModel], ...]:
    """The class that opens a kind; all of them where the name is empty."""
    return tuple(opened for opened in Component.__subclasses__() if not name or opened.kind == name)


def _value(entry: Entry, node: Node, kinds: tuple[type[BaseModel], ...], path: Path, notes: list[Problem]) -> Node:
    if isinstance(node.value, tuple):
        items = tuple(_value(entry, item, kinds, (*path, i), notes) for i, item in enumerate(node.value))
        return replace(node, value=items)
    components = [kind for kind in kinds if issubclass(kind, Component)]
    if isinstance(node.value, str):
        return _use(entry, node, components, path, notes)
    if not isinstance(node.value, Mapping):
        return node
    values = dict(node.value)
    if "use" in values:
        values["use"] = _use(entry, values["use"], components, (*path, "use"), notes)
        node = replace(node, value=values)
    elif not any(not issubclass(kind, Component) for kind in kinds):
        # a mapping of named components
        return replace(
            node, value={name: _value(entry, item, kinds, (*path, name), notes) for name, item in values.items()}
        )
    made = class_of(kinds, node.plain())
    if made is None:
        return node
    old_names: Mapping[str, str] = getattr(made, "renamed", {})
    found: dict[str, Node] = {}
    for name, child in values.items():
        new = old_names.get(name, name)
        if new in values:
            # Beside today's name the old one is an unknown field.
            new = name
        if new != name:
            notes.append(_note(entry, (*path, name), name, new, key=True))
        info = _field(made, new)
        inside = models_in(info.annotation) if info is not None else ()
        found[new] = _value(entry, child, inside, (*path, name), notes) if inside else child
    return replace(node, value=found)


def _use(entry: Entry, node: Node, kinds: list[type[Component]], path: Path, notes: list[Problem]) -> Node:
    if not isinstance(node.value, str):
        return node
    for old, new in _renamed_uses(node.value, kinds):
        notes.append(_note(entry, path, old, new))
        return replace(node, value=new)
    return node


def _renamed_uses(use: str, kinds: list[type[Component]]) -> Iterator[tuple[str, str]]:
    for kind in kinds:
        try:
            found = registries.registry().find(kind.kind, use)
        except ComponentError:
            continue
        bare = use.rpartition("/")[2].partition("@")[0]
        if found.name != bare:
            yield bare, use.replace(bare, found.name)


def _field(model: type[BaseModel], name: str) -> FieldInfo | None:
    attribute = field_of(model, name)
    return None if attribute is None else model.model_fields[attribute]


def _note(entry: Entry, path: Path, old: str, new: str, *, key: bool = False) -> Problem:
    problem = entry.problem(f"`{old}` is now called `{new}`", path, key=key)
    return replace(problem, note=True)


def with_columns_of_today(
    entry: Entry, columns: Mapping[str, str], taken: Collection[str], notes: list[Problem]
) -> Entry:
    """The entry with today's names of its source's columns in its references.

    `columns` are old names with today's; an old name that is `taken` by another entry means that entry.
    """
    made = entry.component
    if made is None or not columns:
        return entry
    known = {old: new for old, new in columns.items() if old not in taken}
    found: list[tuple[Path, str, str]] = []
    changed = _with_columns(made, known, columns, (), found)
    for path, old, new in found:
        place = path if entry.node.at(path) is not None else path[:-1]
        notes.append(_note(entry, place, old, new))
    return replace(entry, component=changed) if found and isinstance(changed, Component | View) else entry


def _with_columns(
    value: Written, known: Mapping[str, str], columns: Mapping[str, str], path: Path, found: list[tuple[Path, str, str]]
) -> Written:
    if isinstance(value, Ref):
        section, rest = ((value.path[0],), value.path[1:]) if value.path[0] == "fields" else ((), value.path)
        new = (columns if section else known).get(rest[0]) if rest else None
        if new is None:
            return value
        found.append((path, rest[0], new))
        return Ref(".".join((*section, new, *rest[1:])))
    if isinstance(value, BaseModel):
        update = {
            name: _with_columns(getattr(value, name), known, columns, (*path, info.alias or name), found)
            for name, info in type(value).model_fields.items()
        }
        return value.model_copy(update={n: new for n, new in update.items() if new is not getattr(value, n)})
    if isinstance(value, Mapping):
        return {name: _with_columns(item, known, columns, (*path, name), found) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_with_columns(item, known, columns, (*path, i), found) for i, item in enumerate(value))
    return value
