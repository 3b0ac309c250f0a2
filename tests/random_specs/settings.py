"""Settings for components of every kind: data and encoders that give each form of input there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.random_specs.files import Files

TOWER = {"size": 16, "patch": 8, "width": 8, "depth": 1, "heads": 2}
WORDS = {"width": 8, "depth": 1, "heads": 2, "length": 12}


@dataclass(frozen=True)
class Setting:
    """The sections of a spec that others are put into, and what may be read there."""

    name: str
    data: Mapping[str, Any]
    encoders: Mapping[str, Any]
    reads: Sequence[str]
    """References to outputs of one form."""
    views: Mapping[str, Any] = field(default_factory=dict)

    def sections(self) -> dict[str, Any]:
        own = {"data": {**self.data}, "views": {**self.views}, "encoders": {**self.encoders}}
        return {name: section for name, section in own.items() if section}


def settings(files: Files) -> list[Setting]:
    """Vectors, vectors of rows some of which are absent, groups of fixed and of unknown size, sequences, grids, rows
    that are no samples."""
    table = {part: {"use": "table", **(files.of("table", n) or {})} for n, part in enumerate(("one", "other"))}
    clips = {part: {"use": "motions", "size": 16, "pixels": 16, "frames": 4, "seed": n} for n, part in enumerate(table)}
    words = {"words": {"use": "text_transformer", "of": "words", **WORDS}}
    image = {"image": {"use": "vit", "of": "image", **TOWER}}
    again = {"again": {"use": "same", "weights": "words", "of": "again"}}
    graph = {part: {"use": "graphs", "authors": 16, "papers": 20, "venues": 4, "features": 8, "seed": n}
             for n, part in enumerate(table)}  # fmt: skip
    two = {"two": {"of": "image", "apply": ["flip"], "copies": 2}}
    return [
        Setting("vectors", table, {**words, **again}, ("words", "again")),
        Setting(
            "absent rows", table, {**image, "vector": {"use": "linear", "of": "vector", "dim": 8}}, ("image", "vector")
        ),
        Setting("copies", table, {"copies": {"use": "vit", "of": "two", **TOWER}}, ("copies",), two),
        Setting("frames", clips, {"frames": {"use": "vit", "of": "video", **TOWER}}, ("frames",)),
        Setting(
            "a group of unknown size",
            table,
            {**words, "options": {"use": "same", "weights": "words", "of": "options"}},
            ("options",),
        ),
        Setting("sequences", table, {**words, **again}, ("words.tokens", "again.tokens")),
        Setting(
            "sequences of members",
            table,
            {**words, "options": {"use": "same", "weights": "words", "of": "options"}},
            ("options.tokens",),
        ),
        Setting("grids", table, image, ("image.grid",)),
        Setting(
            "rows of their own",
            graph,
            {"node": {"use": "graph", "of": ["node.x", "node.coauthors"], "width": 8, "depth": 1}},
            ("node",),
        ),
    ]
