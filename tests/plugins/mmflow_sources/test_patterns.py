"""Patterns of paths and URLs: the same as by definition, in bounded time, for any name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_sources.access.patterns import expand_braces, expanded
from mmflow_sources.folder import FolderSource
from mmflow_sources.rows.path_parts import PathPattern
from mmflow_sources.table import Table
from PIL import Image

from mmflow.plugin import ComponentError, Source

NAMES = ("a", "b", "c", "d")


def by_definition(pattern: str) -> re.Pattern[str]:
    """Each part at least one character, no slash, as few as possible."""
    pieces = re.split(r"\{(\w+)\}", pattern)
    return re.compile("".join(
        re.escape(piece) if place % 2 == 0 else f"(?P<{piece}>[^/]+?)" for place, piece in enumerate(pieces)
    ))  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="x_/", max_size=3), min_size=2, max_size=5),
    path=st.text(alphabet="xy_/", max_size=12),
)
def test_parts_are_those_of_the_definition(texts: list[str], path: str) -> None:
    pattern = texts[0] + "".join(f"{{{name}}}{text}" for name, text in zip(NAMES, texts[1:], strict=False))
    expected = by_definition(pattern).fullmatch(path)
    assert PathPattern(pattern).match(path) == (None if expected is None else expected.groupdict())


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("{a}_{b}", "in/x_y", None),
        ("{a}_{b}", "x_in/y", None),
        ("{a}/{b}", "p/q/r", None),
        ("{a}/{b}", "p/q", {"a": "p", "b": "q"}),
        ("{a}_{b}", "x_y_z", {"a": "x", "b": "y_z"}),
        ("{a}__{b}", "x___y", {"a": "x", "b": "_y"}),
        ("{a}_{b}", "_y", None),
    ],
)
def test_parts_hold_no_slash_and_are_as_short_as_possible(pattern: str, path: str, expected: Any) -> None:
    assert PathPattern(pattern).match(path) == expected


@pytest.mark.parametrize("pattern", ["{a}_{b}_{c}_{d}_{e}_{f}_{g}_{h}x", "{a}{b}{c}{d}{e}{f}x", "_{a}_/{b}_{c}_{d}x"])
def test_a_name_that_almost_matches_in_very_many_ways_costs_nothing(pattern: str) -> None:
    assert PathPattern(pattern).match("_" * 100_000) is None
    assert PathPattern(pattern).match("_" * 5000 + "/" + "_" * 100_000) is None


@pytest.mark.parametrize("pattern", ["*_*_*_*_*_*_*_*x.png", "*?*?*?*?*?*?*y*.png"])
def test_wildcards_in_the_names_of_files_cost_nothing(tmp_path: Path, pattern: str) -> None:
    for name in ("_" * 200, "a_b_c_d_e_f_g_hx", "ayb"):
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / f"{name}.png")
    source = FolderSource(url=f"{tmp_path}/{pattern}")
    with_match = [name for name in ("a_b_c_d_e_f_g_hx",) if pattern.startswith("*_")]
    if with_match:
        assert source.open().id(0) == with_match[0]
    else:
        with pytest.raises(ComponentError, match="no folder with files"):
            source.open()


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("x{0..99999999999}.tar", 10**11), ("x" + "{a,b}" * 30, 2**30), ("{1..5000}{1..5000}", 25 * 10**6)],
)  # fmt: skip
def test_braces_that_stand_for_too_many_files_are_refused(pattern: str, count: int) -> None:
    with pytest.raises(ComponentError, match=f"stands for {count:,} files"):
        expand_braces(pattern)


def test_braces_within_braces_are_bounded() -> None:
    assert expand_braces("x{a,{b,{c,d}}}") == ["xa", "xb", "xa", "xc", "xa", "xb", "xa", "xd"]
    with pytest.raises(ComponentError, match="has 2000 braces within one another"):
        expand_braces("{a," * 2000 + "b" + "}" * 2000)
    with pytest.raises(ComponentError, match="stands for"):
        expand_braces("{{0..999},{0..999}}{{0..999},a}")
    with pytest.raises(ComponentError, match="stands for 100,000 files"):
        expand_braces("y" * 90_000 + "{0..99999}")
    assert len(expand_braces(f"{{{','.join(['shard-of-some-data'] * 20_000)}}}.tar")) == 20_000


def test_patterns_stand_for_no_more_files_together_than_one() -> None:
    with pytest.raises(ComponentError, match="stands for 1,000,001 files"):
        expanded(lambda url: pytest.fail(url), ["{0..999999}.tar", "x.tar"], "tar files")


def test_a_very_long_name_without_braces_is_one_file() -> None:
    for text in ("{" * 100_000, "{0.." * 20_000, "{a" * 30_000 + "}"):
        assert expand_braces(text) == [text]
    assert expand_braces("{2..1}") == []
    assert expand_braces("{a{0..2},b}") == ["a0", "b", "a1", "b", "a2", "b"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*/*.csv", ["a/0.csv", "a/1.csv", "b/0.csv"]),
        ("{a,b}/0.csv", ["a/0.csv", "b/0.csv"]),
        ("?/[1-9]*.csv", ["a/1.csv"]),
        ("*/in/*.csv", ["b/in/2.csv"]),
        ("b/*/2.csv", ["b/in/2.csv"]),
    ],
)
def test_patterns_may_stand_in_folders(tmp_path: Path, pattern: str, names: list[str]) -> None:
    for name in ("a/0.csv", "a/1.csv", "b/0.csv", "b/in/2.csv", "b/note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"word\n{name}\n")
    source = Table(url=f"{tmp_path}/{pattern}", stream=True)
    assert expanded(source.folder, [source.url], "tables") == [f"{tmp_path}/{name}" for name in names]
    reader = source.open()
    words = [raw.cells["word"] for shard in range(len(names)) for _, raw in reader.shard(shard, ("word",))]
    assert words == names


@pytest.mark.parametrize(
    "declared",
    [
        {"use": "split", "of": {"use": "shapes", "size": 10**9}, "part": "test"},
        {"use": "filter", "of": {"use": "shapes", "size": 10**9}, "where": {"count": 1}},
        {"use": "subset", "of": {"use": "sentences", "size": 10**9}, "share": 0.5},
        {"use": "split", "of": {"use": "concat", "of": [{"use": "shapes", "size": 10**9}] * 2}, "part": "test"},
    ],
    ids=lambda declared: declared["use"],
)
def test_a_choice_among_very_many_drawn_samples_is_refused(declared: Any) -> None:
    with pytest.raises(ComponentError, match=r"1,000,000,000|2,000,000,000|500,000,000"):
        Source.accept(declared).open()


def test_a_few_of_very_many_drawn_samples_are_drawn() -> None:
    of = {"use": "sentences", "size": 10**9}
    reader = Source.accept({"use": "subset", "of": of, "size": 100}).open()
    assert len({reader.id(place) for place in range(100)}) == 100
    assert len(Source.accept({"use": "subset", "of": of, "share": 0.9, "order": "first"}).open()) == 9 * 10**8


def test_a_large_split_is_made_when_it_is_first_needed() -> None:
    import pickle

    declared = {"use": "split", "of": {"use": "sentences", "size": 60_000}, "part": "test"}
    later, ids = pickle.loads(pickle.dumps(Source.accept(declared).open())), set()
    assert 11_000 < len(later) < 13_000
    ids = {later.id(place) for place in range(500)}
    train = Source.accept({**declared, "part": "train"}).open()
    assert ids.isdisjoint(train.id(place) for place in range(2000))
