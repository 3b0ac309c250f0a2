"""The sections of a spec: which there are, and their named entries."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mmflow.spec.components.entry import Entry
from mmflow.spec.components.named import KINDS, at_key, named_nodes, validated
from mmflow.spec.components.repeat import RepeatEntry, is_repeat, listed, read_repeat
from mmflow.spec.components.stages import StageEntry, read_stages
from mmflow.spec.components.validate import validate_model
from mmflow.spec.text.document import Document, Node
from mmflow.spec.text.problems import Problem, did_you_mean, shown

LANGUAGE = 1
NAMED = ("data", "views", "encoders", "memories", "losses", "parts", "eval", "stages", "track")
SECTIONS = ("mmflow", "name", "seed", "vars", *NAMED, "train", "matrix", "extends", "report")


class Report(BaseModel):
    """The section `report`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Annotated[str, Field(max_length=200, description="of the page; the name of the spec by default")] = ""


@dataclass
class Sections:
    """A spec in its parts. `entries` are by section and name; an invalid entry has no component."""

    name: str
    seed: int
    report: Report
    entries: dict[str, dict[str, Entry]]
    stages: dict[str, StageEntry]
    repeats: dict[str, RepeatEntry]
    complete: bool = True
    """False where a section's name is not known, so that entries may be missing."""

    @property
    def inner(self) -> dict[str, StageEntry]:
        """The stages inside others, by their full names."""
        return {name: inner for stage in self.stages.values() for name, inner in stage.inner.items()}

    @property
    def every(self) -> dict[str, StageEntry]:
        """All stages, those inside others included."""
        return self.stages | self.inner


def read_sections(document: Document, problems: list[Problem]) -> Sections:
    """Every entry of a spec, validated by itself; references are resolved later."""
    top = document.root.entries()
    for name, node in top.items():
        if name not in SECTIONS:
            hint = did_you_mean(name, SECTIONS, otherwise=f"the sections are {', '.join(SECTIONS)}")
            problems.append(at_key(node, (name,), f"there is no section {shown(name)}", hint=hint))
    _language(top.get("mmflow"), problems)
    matrix = top.get("matrix")
    if matrix is not None and matrix.value:
        # Members have no such section any more.
        hint = "read its members with `load_members`"
        problems.append(at_key(matrix, ("matrix",), "a matrix of specs stands where one spec is read", hint=hint))
    named = {section: named_nodes(top.get(section), section, problems) for section in NAMED if section != "track"}
    repeats = {
        name: repeat
        for section in ("stages", "eval")
        for name, node in named[section].items()
        if is_repeat(node) and (repeat := read_repeat(name, (section, name), node, problems)) is not None
    }
    train = top.get("train")
    if repeats:
        known = {name: repeat.repetition for name, repeat in repeats.items()}
        for section, nodes in named.items():
            named[section] = {name: listed(node, known, (section, name), problems) for name, node in nodes.items()}
        train = listed(train, known, ("train",), problems) if train is not None else None
        repeats = {name: repeat.listed(known, problems) for name, repeat in repeats.items()}
    entries: dict[str, dict[str, Entry]] = {
        section: {
            name: validated(Entry(section, name, (section, name), node), problems)
            for name, node in named[section].items()
        }
        for section in ("data", "views", *(kind for kind in KINDS if kind not in ("data", "track")))
    }
    entries["track"] = _trackers(top.get("track"), problems)
    stages = read_stages(train, named, repeats, entries["data"], problems)
    return Sections(
        name=_name(top.get("name"), document, problems),
        seed=_seed(top.get("seed"), problems),
        report=_report(top.get("report"), problems),
        entries=entries,
        stages=stages,
        repeats=repeats,
        complete=all(name in SECTIONS for name in top),
    )


def _trackers(node: Node | None, problems: list[Problem]) -> dict[str, Entry]:
    """The entries of `track`: named ones, or a list, whose entries are named by their `use`."""
    if node is None or not isinstance(node.value, tuple):
        named = named_nodes(node, "track", problems)
        return {n: validated(Entry("track", n, ("track", n), child), problems) for n, child in named.items()}
    found: dict[str, Entry] = {}
    for index, child in enumerate(node.value):
        use = child.child("use") or child
        name = use.value if isinstance(use.value, str) else "tracker"
        name = name if name not in found else f"{name}-{index}"
        found[name] = validated(Entry("track", name, ("track", index), child.brought(*node.via)), problems)
    return found


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


def _report(node: Node | None, problems: list[Problem]) -> Report:
    if node is None or node.value is None:
        return Report()
    if not isinstance(node.value, Mapping):
        problems.append(node.problem("", ("report",), found=node.shown(), expected="a mapping"))
        return Report()
    return validate_model(Entry("report", "report", ("report",), node), Report, node.plain(), problems) or Report()
