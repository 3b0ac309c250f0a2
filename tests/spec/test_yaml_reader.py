"""YAML text to a tree with places: what is read, what is refused, and where."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmflow.spec.text.document import Document
from mmflow.spec.text.problems import SpecError
from mmflow.spec.text.scalars import core_scalar
from mmflow.spec.text.yaml_reader import MAX_DEPTH, parse_text
from mmflow.spec.text.yaml_writer import write_yaml

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    [
        "1e-3",
        "0o17",
        "on",
        "no",
        "2020-01-01",
        "12:30",
        "~",
        "<<",
        "=",
        "null",
        "-",
        "$vars.x",
        "a: b",
        "x[0]",
        " ",
        "#",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=30
)


@given(st.dictionaries(texts, trees, max_size=5))
def test_what_is_written_is_read_back_equal(data: dict[str, object]) -> None:
    assert parse_text(write_yaml(data), "t.yaml").data == data


names = st.from_regex(r"[a-z][a-z_ .:-]{0,9}", fullmatch=True)
common = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=30,
)


@given(st.dictionaries(names, common, max_size=5), st.sampled_from([True, False, None]))
def test_other_writers_of_yaml_are_understood(data: dict[str, object], flow: bool | None) -> None:
    assert parse_text(yaml.safe_dump(data, default_flow_style=flow), "t.yaml").data == data


def outcome(text: str | bytes) -> Document | SpecError:
    try:
        return parse_text(text, "t.yaml")
    except SpecError as error:
        return error


def only_document_or_problems(text: str | bytes) -> None:
    found = outcome(text)
    if isinstance(found, SpecError):
        assert found.problems
        assert all(line.startswith("t.yaml") for line in str(found).splitlines())
    else:
        assert isinstance(found.data, dict)


@given(st.text(max_size=200))
def test_any_text_gives_a_document_or_problems(text: str) -> None:
    only_document_or_problems(text)


@given(st.text(alphabet="ab:-,[]{}&*!|>'\"%@`#?<~ \n\t$.01eo\ud800\x00", max_size=60))
def test_any_text_of_yaml_signs_gives_a_document_or_problems(text: str) -> None:
    only_document_or_problems(text)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_problems(content: bytes) -> None:
    only_document_or_problems(content)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("True", True),
        ("false", False),
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-11-23", "2026-11-23"),
        ("2026-13-45", "2026-13-45"),
        ("~", None),
        ("", None),
        ("-.inf", -math.inf),
        ("+12", 12),
        ("0b1", "0b1"),
        ("image.1.layers.6", "image.1.layers.6"),
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    found = core_scalar(text)
    assert found == value
    assert type(found) is type(value)
    assert parse_text(f"a: {text}", "t.yaml").data == {"a": value}


def test_quoted_scalars_are_text() -> None:
    assert parse_text("a: '1'\nb: \"true\"\nc: |\n  1\non: '<<'", "t").data == {
        "a": "1",
        "b": "true",
        "c": "1\n",
        "on": "<<",
    }
    assert parse_text("'<<': 1", "t").data == {"<<": 1}


def test_anchors_and_merge_keys() -> None:
    document = parse_text(
        "base: &base\n  a: 1\n  b: {c: 2}\nmore: &more {a: 5, d: 6}\n"
        "one: {<<: *base, a: 7}\ntwo:\n  <<: [*more, *base]\nthree: *base\n",
        "t.yaml",
    )
    assert document.data["one"] == {"a": 7, "b": {"c": 2}}
    assert document.data["two"] == {"a": 5, "d": 6, "b": {"c": 2}}
    assert document.data["three"] == {"a": 1, "b": {"c": 2}}
    mark, also = document.place(("three", "b", "c"))
    assert (str(mark), [str(place) for place in also]) == ("t.yaml:3:10", ["by the alias at t.yaml:8:8"])
    mark, also = document.place(("one", "b"))
    assert (mark.line, [place.mark.line for place in also]) == (3, [5, 5])
    mark, also = document.place(("one", "a"), key=True)
    assert (str(mark), also) == ("t.yaml:5:18", ())


def test_places_of_keys_values_and_of_what_is_missing() -> None:
    document = parse_text("a:\n  - x: 1\n    yy: two\n", "t.yaml")
    assert str(document.place(("a", 0, "yy"))[0]) == "t.yaml:3:9"
    assert str(document.place(("a", 0, "yy"), key=True)[0]) == "t.yaml:3:5"
    assert str(document.place(("a", 0, "zz", "deeper"))[0]) == "t.yaml:2:5"
    problem = document.problem("", ("a", 0, "yy"), found='"two"', expected="a number")
    assert str(problem) == 't.yaml:3:9: a.0.yy: found "two", expected a number'


def test_bytes_with_a_byte_order_mark_are_read() -> None:
    assert parse_text(b"\xef\xbb\xbfa: \xc3\xa9", "t").data == {"a": "é"}


def test_sixty_four_levels_are_read() -> None:
    inside = MAX_DEPTH - 1
    assert parse_text("a: " + "[" * inside + "1" + "]" * inside, "t").data["a"]


bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
chain = "a: &a [[[[[[[[[[1]]]]]]]]]]\n" + "".join(
    f"{name}: &{name} [[[[[[[[[*{before}]]]]]]]]]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "1:1", ["empty", "mmflow: 1"]),
        ("# nothing\n", "1:1", ["empty"]),
        ("hello world", "1:1", ['found "hello world"', "mapping of sections"]),
        ("- a\n- b\n", "1:1", ["found a list of 2"]),
        ("3", "1:1", ["found 3"]),
        ("a: 1\nb: 2\na: 3\n", "3:1", ['"a" stands twice', "t.yaml:1:1"]),
        ("x:\n  a: 1\n  a: 3\n", "3:3", ["x: ", "stands twice"]),
        ("a: !!int x\n", "1:4", ["tags such as !!int"]),
        ("a: !!python/object:os.system x\n", "1:4", ["tags such as !!python/object:os.system"]),
        ("a: !mine {b: 1}\n", "1:4", ["!mine", "leave it out"]),
        ("a: !!timestamp x\n", "1:4", ["!!timestamp"]),
        ("1: x\n", "1:1", ["a key is a name", "found 1", 'write "1" in quotes']),
        ("a: {true: x}\n", "1:5", ["found true"]),
        ("? [a, b]\n: c\n", "1:3", ["found a list of 2"]),
        ("a: &x [*x]\n", "1:8", ["circle", "t.yaml:1:4"]),
        ("a: &x {<<: *x}\n", "1:12", ["circle"]),
        ("a: &x 1\nb: *y\n", "2:4", ["no anchor &y", "there is x"]),
        ("a: &speed 1\nb: *sped\n", "2:4", ["did you mean speed?"]),
        ("a: {<<: 3}\n", "1:9", ["`<<` merges mappings", "found 3"]),
        ("x: &x {}\na: {<<: *x, <<: *x}\n", "2:13", ["`<<` stands twice", "[*one, *two]"]),
        ("a: 1\n---\nb: 2\n", "2:1", ["a second document", "---"]),
        ("%YAML 1.1\n---\na: 1\n", "1:1", ["YAML 1.2, not 1.1"]),
        ("a:\n\t- 1\n", "2:1", ["spaces, not with tabs"]),
        ("a: [image[0]]\n", "1:10", ["image.0, not image[0]"]),
        ("a: {b: ${vars.x}}\n", "1:9", ["$vars.NAME"]),
        ("a: {match: *}\n", "1:13", ['quotes: "*"']),
        ("a: b: c\n", "1:5", ["mapping values are not allowed", "in quotes"]),
        ("a: @x\n", "1:4", ["in quotes"]),
        ("a: 'x\n", "2:1", ["close the quotes"]),
        ("a: {b: 1\nc: 2\n", "2:2", ["close every ["]),
        ("a:\n    b: 1\n  c: 2\n", "3:3", ["indent"]),
        ("a: 1e999\n", "1:4", ["a: ", "larger than a float"]),
        (f"a: {'9' * 5000}\n", "1:4", ["more than 400 digits"]),
        ("a: \ud800\n", "1:4", ["U+D800"]),
        ('a: "\\ud800"\n', "1:7", ["not valid YAML", "escape"]),
        ("ok: 1\na: \x00\n", "2:4", ["U+0000"]),
        (b"a: 1\nb: \xff\n", "2:4", ["0xff is not UTF-8", "save the file as UTF-8"]),
        (b"\x89PNG\r\n\x1a\n", "1:1", ["0x89 is not UTF-8"]),
        ("a: 1\n".encode("utf-16"), "1:1", ["0xff is not UTF-8"]),
        ("[" * 100_000, f"1:{MAX_DEPTH + 1}", ["deeper than 64"]),
        ("a: " + "[" * 1000 + "]" * 1000, None, ["deeper than 64"]),
        ("a: " + "{a: " * 1000, None, ["deeper than 64"]),
        ("\n".join(" " * level + "a:" for level in range(1000)), "65:65", ["deeper than 64"]),
        (bomb, "5:4", ["aliases expand this to 111111 values"]),
        (chain, "8:15", ["deeper than 64"]),
        ("a: [" + "1, " * 200_000 + "]", None, ["more than 100000 values"]),
        ("a: '" + "x" * 3_000_000 + "'", None, ["longer than 2097152 bytes"]),
    ],
)
def test_a_broken_text_is_refused_with_place_and_words(text: str | bytes, place: str | None, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_text(text, "t.yaml")
    (problem,) = caught.value.problems
    message = str(problem)
    assert message.startswith(f"t.yaml:{place}: " if place else "t.yaml:"), message
    for word in words:
        assert word in message
    assert message.isprintable()


def test_all_mistakes_that_leave_the_text_readable_are_reported_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse_text("a: !!int 1\nb: *none\na: 2\n3: x\nc: {d: 1e999}\n", "t.yaml")
    assert [problem.mark.line for problem in caught.value.problems if problem.mark] == [1, 2, 3, 4, 5]


def test_a_sign_of_many_bytes_keeps_columns_in_characters() -> None:
    assert str(parse_text("ä: {é: 'ö', b: 1}", "t").place(("ä", "b"))[0]) == "t:1:16"
