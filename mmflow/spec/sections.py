"""The sections of a spec: which there are, their named entries, and the stages that `train` and `eval` stand for."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mmflow.plugin.component import Component
from mmflow.plugin.kinds import Stage
from mmflow.plugin.references import Data, reference_fields
from mmflow.spec.classes import field_names
from mmflow.spec.document import Document, Node
from mmflow.spec.entry import Entry
from mmflow.spec.expand import merge
from mmflow.spec.problems import Path, Place, Problem, did_you_mean, shown
from mmflow.spec.validate import find_class, validate_component, validate_view

LANGUAGE = 1
KINDS: Mapping[str, str] = {
    "data": "source",
    "encoders": "encoder",
    "memories": "memory",
    "losses": "loss",
    "parts": "",
    "track": "tracker",
}
NAMED = ("data", "views", "encoders", "memories", "losses", "parts", "eval", "stages", "track")
SECTIONS = ("mmflow", "name", "seed", "vars", *NAMED, "train", "matrix", "extends", "report")
OVERRIDES = ("views", "encoders", "memories", "losses")
"""Sections that a stage may carry, merged over the global ones."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_TAKEN = ("fields", "views", "encoders", "memories", "losses", "parts", "stages", "data", "sampler")
_NOT_YET_NODE = ("constrain", "lora", "rows", "passes")
_NOT_YET_STAGE = ("updates", "refresh", "keep", "stop", "fields", "replace", "processes", "devices", "nodes")


@dataclass
class StageEntry:
    """A stage as written: its entry, the sections that it carries, and what is known of it."""

    entry: Entry
    overrides: dict[str, Node] = field(default_factory=dict)
    component: type[Component] | None = None
    refused: tuple[str, ...] = ()
    """What it asks for that is not built yet."""

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def declaration(self) -> Stage | None:
        made = self.entry.component
        return made if isinstance(made, Stage) else None

    @property
    def gives(self) -> Mapping[str, str] | None:
        """The stage's outputs; None where they are unknown."""
        if self.component is None or self.refused or not issubclass(self.component, Stage):
            return None
        return self.component.gives if self.declaration is None else self.declaration.given()


@dataclass
class Sections:
    """A spec in its parts. `entries` are by section and name; what is invalid has no component."""

    name: str
    seed: int
    report: dict[str, Any]
    entries: dict[str, dict[str, Entry]]
    stages: dict[str, StageEntry]
    refreshed: tuple[str, ...] = ()
    """Names that only a refused `refresh` would give."""
    complete: bool = True
    """False where a section's name is not known, so that entries may be missing."""


def read_sections(document: Document, problems: list[Problem]) -> Sections:
    """Every entry of a spec, validated by itself; references are resolved later."""
    top = document.root.entries()
    for name, node in top.items():
        if name not in SECTIONS:
            hint = did_you_mean(name, SECTIONS, otherwise=f"the sections are {', '.join(SECTIONS)}")
            problems.append(_at(node, (name,), f"there is no section {shown(name)}", hint=hint))
    _language(top.get("mmflow"), problems)
    matrix = top.get("matrix")
    if matrix is not None and matrix.value:
        problems.append(_at(matrix, ("matrix",), "not yet: matrix", hint="write one spec a member, with `extends`"))
    named = {section: _named(top.get(section), section, problems) for section in NAMED}
    entries: dict[str, dict[str, Entry]] = {
        section: {
            name: validated(Entry(section, name, (section, name), node), problems)
            for name, node in named[section].items()
        }
        for section in ("data", "views", *(kind for kind in KINDS if kind != "data"))
    }
    stages = _stages(top.get("train"), named, entries["data"], problems)
    refreshed = [
        name
        for stage in stages.values()
        if (refresh := stage.entry.node.child("refresh")) is not None
        for name in refresh.entries()
    ]
    return Sections(
        name=_name(top.get("name"), document, problems),
        seed=_seed(top.get("seed"), problems),
        report=_report(top.get("report"), problems),
        entries=entries,
        stages=stages,
        refreshed=tuple(refreshed),
        complete=all(name in SECTIONS for name in top),
    )


def validated(entry: Entry, problems: list[Problem]) -> Entry:
    """The entry with its component, or without one after problems."""
    if entry.section == "views":
        return replace(entry, component=validate_view(entry, problems))
    component, fields = find_class(entry, KINDS[entry.section], problems)
    if component is None:
        return entry
    if component.kind == "service":
        problems.append(entry.problem("not yet: services", ("use",)))
        return entry
    if component.kind == "encoder":
        for name in _NOT_YET_NODE:
            if name in fields and name not in field_names(component):
                fields.pop(name)
                problems.append(
                    entry.problem(f"not yet: `{name}` of an encoder", (name,), key=True, hint="leave it out")
                )
    return replace(entry, component=validate_component(entry, component, fields, problems))


# ---- the top of the file


def _at(node: Node, path: Path, message: str, **parts: Any) -> Problem:
    return node.problem(message, path, (), key=True, **parts)


def _language(node: Node | None, problems: list[Problem]) -> None:
    if node is not None and (node.value != LANGUAGE or isinstance(node.value, bool)):
        problems.append(
            node.problem(
                "this is another version of the language", ("mmflow",), found=node.shown(), expected="mmflow: 1"
            )
        )


def _name(node: Node | None, document: Document, problems: list[Problem]) -> str:
    stem = posixpath.basename(document.origin).rpartition(".")[0] or "spec"
    if node is None:
        return stem
    value = node.value
    if node.env:
        problems.append(
            node.problem(f"{node.shown()} in a name", ("name",), hint="write the name, or use --set name=...")
        )
        return stem
    if isinstance(value, str) and value.strip() and len(value) <= 100 and value.isprintable() and "/" not in value:
        return value
    expected = "a name of at most 100 characters without `/`"
    problems.append(node.problem("", ("name",), found=node.shown(), expected=expected))
    return stem


def _seed(node: Node | None, problems: list[Problem]) -> int:
    if node is None:
        return 0
    value = node.value
    if node.env:
        problems.append(node.problem(f"{node.shown()} can change results", ("seed",), hint="use --set seed=..."))
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    problems.append(node.problem("", ("seed",), found=node.shown(), expected="a whole number from 0 to 2^63 - 1"))
    return 0


def _report(node: Node | None, problems: list[Problem]) -> dict[str, Any]:
    if node is None or node.value is None:
        return {}
    if isinstance(node.value, Mapping):
        return node.plain()
    problems.append(node.problem("", ("report",), found=node.shown(), expected="a mapping"))
    return {}


def _named(node: Node | None, section: str, problems: list[Problem]) -> dict[str, Node]:
    """The named entries of a section."""
    if node is None or node.value is None:
        return {}
    if not isinstance(node.value, Mapping):
        hint = f"write {section}: {{NAME: {{...}}}}"
        problems.append(node.problem("", (section,), found=node.shown(), expected="named entries", hint=hint))
        return {}
    return {name: child for name, child in node.entries().items() if _name_is_good(child, (section, name), problems)}


def _name_is_good(node: Node, path: Path, problems: list[Problem]) -> bool:
    name = str(path[-1])
    if not _NAME.fullmatch(name):
        hint = "use letters, digits, _ and -, beginning with a letter"
        problems.append(_at(node, path, f"{shown(name)} cannot be referred to", hint=hint))
        return False
    if name in _TAKEN or (name == "init" and path[-2] in ("stages", "eval")):
        problems.append(_at(node, path, f"`{name}` is a word of the language", hint="choose another name"))
        return False
    return True


# ---- stages


def _stages(
    train: Node | None, named: Mapping[str, Mapping[str, Node]], data: dict[str, Entry], problems: list[Problem]
) -> dict[str, StageEntry]:
    """Every stage in order: `train`, then `stages`, then `eval`, which so measures the last model."""
    written: list[tuple[str, Path, Node]] = []
    if train is not None and train.value is not None:
        written.append(("train", ("train",), _with_use(train, "train")))
    written += [(name, ("stages", name), node) for name, node in named["stages"].items()]
    written += [(name, ("eval", name), node) for name, node in named["eval"].items()]
    found: dict[str, StageEntry] = {}
    for name, path, node in written:
        if name in found:
            first, _ = found[name].entry.node.place((), key=True)
            also = (Place("the first is at", first),)
            problems.append(_at(node, path, f"two stages are called {name}", also=also, hint="rename one of the two"))
            continue
        found[name] = _stage(Entry("stages", name, path, node), data, problems)
    return found


def _with_use(node: Node, use: str) -> Node:
    if not isinstance(node.value, Mapping) or "use" in node.value:
        return node
    return replace(node, value={"use": Node(use, node.mark), **node.value})


def _stage(entry: Entry, data: dict[str, Entry], problems: list[Problem]) -> StageEntry:
    if entry.node.child("use") is not None and entry.node.entries()["use"].value == "repeat":
        problems.append(entry.problem("not yet: repeat", ("use",), hint="write the stages one after another"))
        return StageEntry(entry, refused=("repeat",))
    overrides = {
        section: node
        for section, node in entry.node.entries().items()
        if section in OVERRIDES and not (section == "losses" and not isinstance(node.value, Mapping))
    }
    for section, node in overrides.items():
        if not isinstance(node.value, Mapping):
            expected = "named entries, merged over the global ones"
            problems.append(entry.problem("", (section,), found=node.shown(), expected=expected))
    if isinstance(entry.node.value, Mapping):
        kept = {name: child for name, child in entry.node.value.items() if name not in overrides}
        entry = replace(entry, node=replace(entry.node, value=kept))
    component, fields = find_class(entry, "stage", problems)
    if component is None:
        return StageEntry(entry, overrides)
    refused = _refuse(entry, component, fields, problems)
    stage = StageEntry(entry, overrides, component, refused)
    entry, fields = _inline_data(entry, component, fields, data, problems)
    stage.entry = entry
    if "data" not in refused:
        stage.entry = replace(entry, component=validate_component(entry, component, fields, problems))
    return stage


def _refuse(
    entry: Entry, component: type[Component], fields: dict[str, Any], problems: list[Problem]
) -> tuple[str, ...]:
    """Take out and report what the language has and this version cannot do."""
    refused: list[str] = []
    for name in _NOT_YET_STAGE:
        if name in fields and name not in field_names(component):
            refused.append(name)
            fields.pop(name)
            problems.append(entry.problem(f"not yet: `{name}` of a stage", (name,), key=True, hint="leave it out"))
    streams = fields.get("data")
    if isinstance(streams, dict) and "use" not in streams:
        refused.append("data")
        problems.append(entry.problem("not yet: several streams of data", ("data",), hint="name one entry of data"))
    if isinstance(fields.get("start"), dict):
        refused.append("start")
        fields.pop("start")
        problems.append(entry.problem("not yet: the long form of `start`", ("start",), hint="write start: STAGE"))
    return tuple(refused)


def _inline_data(
    entry: Entry, component: type[Component], fields: dict[str, Any], data: dict[str, Entry], problems: list[Problem]
) -> tuple[Entry, dict[str, Any]]:
    """A source written where an entry of data is named becomes an entry of its own."""
    for name, types in reference_fields(component).items():
        node = entry.node.entries().get(name)
        if Data not in types or node is None or not isinstance(node.value, Mapping) or "use" not in node.value:
            continue
        anonymous = f"{entry.name}_{name}"
        while anonymous in data:
            anonymous += "_"
        data[anonymous] = validated(Entry("data", anonymous, (*entry.path, name), node), problems)
        assert isinstance(entry.node.value, Mapping)
        named = {**entry.node.value, name: Node(anonymous, node.mark, node.key)}
        entry = replace(entry, node=replace(entry.node, value=named))
        fields = {**fields, name: anonymous}
    return entry, fields


def merged_entries(
    base: Mapping[str, Mapping[str, Entry]], stage: StageEntry, problems: list[Problem]
) -> dict[str, dict[str, Entry]]:
    """The sections as one stage sees them: the global entries with its own merged over them."""
    found = {section: dict(entries) for section, entries in base.items()}
    for section, node in stage.overrides.items():
        for name, child in node.entries().items():
            path = (*stage.entry.path, section, name)
            below = found[section].get(name)
            if child.value is None:
                if below is None:
                    hint = did_you_mean(name, found[section], otherwise="there is nothing to remove")
                    problems.append(_at(child, path, f"there is no `{name}` in `{section}`", hint=hint))
                found[section].pop(name, None)
            elif below is None and isinstance(child.value, Mapping) and "use" not in child.value:
                hint = did_you_mean(name, found[section], otherwise="begin with {use: NAME, ...} to add one")
                problems.append(_at(child, path, f"there is no `{name}` in `{section}` to change", hint=hint))
            elif below is None:
                if _name_is_good(child, path, problems):
                    found[section][name] = validated(Entry(section, name, path, child), problems)
            elif below.component is None:
                found[section][name] = replace(below, path=path, node=child)
            else:
                found[section][name] = validated(Entry(section, name, path, merge(below.node, child)), problems)
    return found
