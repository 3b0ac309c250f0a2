"""From files to one tree: `extends`, overrides and variables, with both places in every message."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmflow.spec.text.document import Document
from mmflow.spec.text.expand import read_spec, read_text
from mmflow.spec.text.problems import SpecError
from mmflow.spec.text.yaml_writer import write_yaml


def write(directory: Path, **files: str) -> Path:
    """Write files named by keyword; the path of the first."""
    for name, text in files.items():
        (directory / f"{name}.yaml").write_text(text)
    return directory / f"{next(iter(files))}.yaml"


def problems_of(directory: Path, overrides: tuple[str, ...] = (), **files: str) -> list[str]:
    """The messages for a spec, with the directory cut from them."""
    with pytest.raises(SpecError) as caught:
        read_spec(str(write(directory, **files)), overrides, env={"HOME_OF_DATA": "/data"})
    return [str(problem).replace(f"{directory}/", "") for problem in caught.value.problems]


# ---- extends


def test_extends_merges_deeply_and_null_removes(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main="extends: base.yaml\na: {x: 5, gone: null, own: null}\nlist: [9]\n",
        base="a: {x: 1, y: {z: 2}, gone: 3}\nlist: [1, 2]\nkept: true\n",
    )
    document = read_spec(str(main))
    assert document.data == {"a": {"x": 5, "y": {"z": 2}, "own": None}, "list": [9], "kept": True}
    assert document.files == (str(main), str(tmp_path / "base.yaml"))
    mark, also = document.place(("a", "y", "z"))
    assert mark.file == str(tmp_path / "base.yaml")
    assert [str(place) for place in also] == [f"extended at {main}:1:10"]
    assert document.place(("a", "x"))[1] == ()


def test_a_component_with_another_name_replaces_the_one_below_it(tmp_path: Path) -> None:
    main = write(
        tmp_path, main="extends: base.yaml\na: {x: {use: two}}\n", base="a: {use: one, x: {use: one, lr: 3}, y: 1}\n"
    )
    assert read_spec(str(main)).data == {"a": {"use": "one", "x": {"use": "two"}, "y": 1}}


def test_a_list_of_bases_the_later_wins_and_a_base_may_be_reached_twice(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", root="r: 0\na: 0\nb: 0\n")
    main = write(
        tmp_path,
        main="extends: [one.yaml, two.yaml]\nc: 3\n",
        one="extends: deep/root.yaml\na: 1\nb: 1\n",
        two="extends: ./deep/root.yaml\nb: 2\n",
    )
    assert read_spec(str(main)).data == {"r": 0, "a": 0, "b": 2, "c": 3}


def test_extends_on_a_url(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/specs/base.yaml", b"a: 1\n")
    memory.pipe("/specs/inner/main.yaml", b"extends: ../base.yaml\nb: 2\n")
    assert read_spec("memory://specs/inner/main.yaml").data == {"a": 1, "b": 2}
    main = write(tmp_path, main="extends: memory://specs/base.yaml\n")
    assert read_spec(str(main)).data == {"a": 1}
    with pytest.raises(SpecError, match=r"there is no file memory://specs/none\.yaml"):
        read_spec("memory://specs/none.yaml")
    with pytest.raises(SpecError, match=r"nosuch://x cannot be read"):
        read_spec("nosuch://x")


def test_a_mistake_in_an_extended_file_names_both_places(tmp_path: Path) -> None:
    assert problems_of(tmp_path, main="name: x\nextends: base.yaml\n", base="a: 1\na: 2\n") == [
        'base.yaml:2:1: the key "a" stands twice; keep one of the two '
        "(the first is at base.yaml:1:1, extended at main.yaml:2:10)"
    ]


def test_a_missing_file_is_reported_with_the_nearest(tmp_path: Path) -> None:
    assert problems_of(tmp_path, main="extends: [base.yaml, bse.yml]\n", base="a: 1") == [
        "main.yaml:1:22: extends: there is no file bse.yml; did you mean base.yaml?"
    ]
    with pytest.raises(SpecError, match=r"no file .*/mian\.yaml; did you mean main\.yaml\?"):
        read_spec(str(tmp_path / "mian.yaml"))
    with pytest.raises(SpecError, match="is a directory"):
        read_spec(str(tmp_path))
    with pytest.raises(SpecError, match="cannot be read: ValueError"):
        read_spec("a\0b")


def test_circles_of_files(tmp_path: Path) -> None:
    (message,) = problems_of(
        tmp_path, one="extends: two.yaml\n", two="extends: three.yaml\n", three="extends: one.yaml\n"
    )
    assert message.startswith(
        "three.yaml:1:10: extends: `extends` runs in a circle: one.yaml -> two.yaml -> three.yaml -> "
    )
    assert message.endswith("(extended at one.yaml:1:10, extended at two.yaml:1:10)")
    (message,) = problems_of(tmp_path, self="extends: ../" + tmp_path.name + "/self.yaml\n")
    assert "runs in a circle: self.yaml -> self.yaml" in message


def test_a_long_chain_of_files_is_refused(tmp_path: Path) -> None:
    for index in range(100):
        (tmp_path / f"f{index}.yaml").write_text(f"extends: f{index + 1}.yaml\n")
    with pytest.raises(SpecError, match="more than 64 files"):
        read_spec(str(tmp_path / "f0.yaml"))


@pytest.mark.parametrize("entry", ["3", "[a, 3]", "{a: b}", "''", "[[a]]"])
def test_extends_takes_paths(tmp_path: Path, entry: str) -> None:
    message = problems_of(tmp_path, main=f"extends: {entry}\n")[-1]
    assert "expected the path of a spec, or a list of paths" in message


# ---- variables


def expanded(text: str, *overrides: str, **env: str) -> Document:
    return read_text(text, "t.yaml", overrides, env)


def test_a_variable_alone_keeps_its_type_and_inside_a_text_is_written_out() -> None:
    data = expanded(
        "vars: {lr: 1e-3, on: true, list: [1, {x: $vars.lr}], name: run, deep: {er: $vars.name}}\n"
        "a: $vars.lr\nb: $vars.list\nc: '$vars.name-$vars.lr-$vars.on'\nd: $vars.list.1.x\n"
        "e: ${vars.deep.er}.yaml\nf: $$vars.lr costs $$5, or $5\ng: [$vars.on]\nh: {k: $vars.deep}\n"
    ).data
    assert data["a"] == 0.001
    assert data["b"] == [1, {"x": 0.001}]
    assert data["c"] == "run-1e-3-true"
    assert data["d"] == 0.001
    assert data["e"] == "run.yaml"
    assert data["f"] == "$vars.lr costs $5, or $5"
    assert data["g"] == [True]
    assert data["h"] == {"k": {"er": "run"}}


def test_a_name_may_lead_through_another_variable() -> None:
    data = expanded("vars: {a: $vars.b, b: {c: {d: 7}}, e: $vars.a.c}\nx: $vars.a.c.d\ny: $vars.e.d\n").data
    assert (data["x"], data["y"]) == (7, 7)
    assert expanded("vars: {a: {x: $vars.a.y, y: 1}}\nb: $vars.a\n").data["b"] == {"x": 1, "y": 1}


def test_an_escaped_dollar_is_not_expanded_twice() -> None:
    assert expanded("vars: {a: $$vars.b, b: 1, c: $vars.a}\nx: $vars.c\ny: <$vars.c>\n").data["x"] == "$vars.b"
    assert expanded("vars: {a: $$vars.b, b: 1, c: $vars.a}\nx: $vars.c\ny: <$vars.c>\n").data["y"] == "<$vars.b>"


def test_environment_values_are_text_and_are_known_as_such() -> None:
    document = expanded(
        "vars: {home: $env.PLACE}\na: $env.COUNT\nb: ['$vars.home/x', 1]\nc: $vars.home\nd: 1\n", PLACE="/p", COUNT="3"
    )
    assert document.data["a"] == "3"
    assert document.data["b"] == ["/p/x", 1]
    found = {path: set(node.env) for path, node in document.root.environment()}
    assert found == {("vars", "home"): {"PLACE"}, ("a",): {"COUNT"}, ("b", 0): {"PLACE"}, ("c",): {"PLACE"}}
    node = document.node(("c",))
    assert node is not None
    assert node.shown() == "the value of $env.PLACE"
    assert [node.text for _, node in document.root.environment()] == [
        "${env.PLACE}",
        "${env.COUNT}",
        "${env.PLACE}/x",
        "${env.PLACE}",
    ]


def test_a_variable_has_the_place_of_its_definition_and_of_its_use() -> None:
    document = expanded("vars:\n  dim: abc\nx:\n  width: $vars.dim\n")
    mark, also = document.place(("x", "width"))
    assert (str(mark), [str(place) for place in also]) == ("t.yaml:2:8", ["used at t.yaml:4:10"])
    assert str(document.place(("x", "width"), key=True)[0]) == "t.yaml:4:3"


def test_a_matrix_stays_as_written() -> None:
    text = "vars: {a: 1}\nmatrix: {m: {x.y: $vars.a}}\n"
    assert expanded(text).data["matrix"] == {"m": {"x.y": "$vars.a"}}


bomb = "vars:\n  v0: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"  v{i}: [{', '.join([f'$vars.v{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
text_bomb = "vars:\n  v0: xxxxxxxxxx\n" + "".join(f"  v{i}: {f'$vars.v{i - 1} ' * 10}\n" for i in range(1, 12))
long_chain = "vars:\n" + "".join(f"  v{i}: $vars.v{i + 1}\n" for i in range(1000)) + "  v1000: 1\n"
deep_chain = "vars:\n" + "".join(f"  v{i}: [[[[[[[[$vars.v{i + 1}]]]]]]]]\n" for i in range(50)) + "  v50: 1\n"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("vars: {dim: 1}\na: $vars.dmi\n", "2:4", ["a: ", "no variable vars.dmi", "did you mean dim?"]),
        ("a: $vars.dim\n", "1:4", ["no variable vars.dim", "define it in `vars`"]),
        ("vars: {a: {b: 1}}\nx: $vars.a.c\n", "2:4", ["vars.a.c", "there is b"]),
        ("vars: {a: x}\nx: $vars.a.png\n", "2:4", ["vars.a has no parts", "${vars.a}"]),
        ("vars: {a: [1]}\nx: $vars.a.1\n", "2:4", ["vars.a"]),
        (
            "vars: {a: [1]}\nx: <$vars.a>\n",
            "2:4",
            ["$vars.a", "found a list of 1", "a text or a number", "t.yaml:1:11"],
        ),
        ("vars: {a: null}\nx: <$vars.a>\n", "2:4", ["found null", "a text or a number"]),
        ("a: $var.dim\n", "1:4", ["$var.dim is no variable", "$$"]),
        ("a: x/$HOME\n", "1:4", ["$HOME is no variable"]),
        ("a: '${dim}'\n", "1:4", ["${dim} is no variable"]),
        ("a: '${vars.x'\n", "1:4", ["is no variable"]),
        ("a: $env.NOT_THERE\n", "1:4", ["the environment has no NOT_THERE", "set it"]),
        ("a: $env.HOME_OF_DTA\n", "1:4", ["did you mean HOME_OF_DATA?"]),
        ("vars: {a: $vars.a}\n", "1:11", ["vars.a: ", "stands for itself: a circle"]),
        ("vars: {a: '<$vars.b>', b: $vars.a}\nx: $vars.a\n", "1:11", ["circle", "used at t.yaml:1:27"]),
        ("vars: {a: {x: $vars.a}}\n", "1:15", ["circle"]),
        ("vars: {a: $vars.b.x, b: $vars.a.x}\n", "1:11", ["circle"]),
        (bomb, "6:7", ["vars.v4", "more than 100000 values"]),
        (text_bomb, None, ["longer than 1048576 characters"]),
        (long_chain, None, ["through more than 64 others"]),
        (deep_chain, None, ["vars"]),
    ],
)
def test_a_broken_variable_is_reported_once_or_where_it_matters(text: str, place: str | None, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        expanded(text, HOME_OF_DATA="/data")
    problems = caught.value.problems
    message = str(problems[0])
    if place is not None and "b.x" not in text:
        assert len(problems) == 1, str(caught.value)
    assert message.startswith(f"t.yaml:{place}: " if place else "t.yaml:"), message
    for word in words:
        assert word in message
    assert len(problems) < 60


def test_an_environment_value_is_never_printed(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        expanded("vars: {k: $env.KEY}\na: <$vars.k>\nb: {c: $env.NONE}\n", KEY="secret", OTHER="secret")
    assert "secret" not in str(caught.value)


# ---- overrides

base = "a: {b: {c: 1}, list: [1, {x: 2}, 3]}\nvars: {v: 1}\nd: $vars.v\ne: text\n"


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("a.b.c=1e-3", ("a", "b", "c"), 0.001),
        ("a.b.c='1'", ("a", "b", "c"), "1"),
        ("a.b.c=on", ("a", "b", "c"), "on"),
        ("a.b={x: [1, true]}", ("a", "b"), {"x": [1, True]}),
        ("a.b.new.deep=2", ("a", "b", "new", "deep"), 2),
        ("a.b.c=x=y", ("a", "b", "c"), "x=y"),
        ("a.list.1.x=9", ("a", "list", 1, "x"), 9),
        ("a.list.0=null", ("a", "list"), [{"x": 2}, 3]),
        ("a.b=null", ("a",), {"list": [1, {"x": 2}, 3]}),
        ("a.b.none=null", ("a", "b"), {"c": 1, "none": None}),
        ("vars.v=7", ("d",), 7),
        ("e=$vars.v", ("e",), 1),
    ],
)
def test_an_override_is_read_as_yaml_and_acts_before_variables(override: str, path: tuple, value: object) -> None:
    node = expanded(base, override).node(path)
    assert node is not None
    assert node.plain() == value


def test_the_later_override_wins_and_extends_comes_first(tmp_path: Path) -> None:
    main = write(tmp_path, main="extends: base.yaml\n", base="a: {b: 1, c: 2}\n")
    document = read_spec(str(main), ["a.b=2", "a.b=3"])
    assert document.data == {"a": {"b": 3, "c": 2}}
    mark, also = document.place(("a", "b"))
    assert str(mark) == "--set a.b=3"
    assert [str(place) for place in also] == [
        f"extended at {tmp_path}/main.yaml:1:10",
        f"in place of {tmp_path}/base.yaml:1:8",
    ]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("a.b", ["--set a.b: ", "a.b.c=value"]),
        ("=3", ["a.b.c=value"]),
        ("a..b=3", ["a.b.c=value"]),
        ("a.b=", ["no value", "a.b=null"]),
        ("a.b=[1", ["--set a.b=[1: a.b: not valid YAML", "close every ["]),
        ("a.b=!!int 3", ["a.b: tags"]),
        ("a.b=*x", ["no anchor &x"]),
        ("e.f=3", ['e is "text" and has no "f"', "t.yaml:4:4", "--set e="]),
        ("a.list.3=1", ["a.list is a list", 'found "3"', "an index from 0 to 2", "t.yaml:1:22"]),
        ("a.list.x=1", ["a.list is a list", 'found "x"']),
        ("a.list.-1=1", ["a.list is a list"]),
        ("extends=x.yaml", ["`extends` belongs in a file"]),
        ("a.b.c=$vars.none", ["--set a.b.c=$vars.none: a.b.c: there is no variable vars.none", "t.yaml:1:12"]),
        (".".join("a" * 1000) + "=1", ["a.b.c=value"]),
        ("a.b=" + "[" * 64 + "]" * 64, ["deeper than 64"]),
        ("a.b=" + "[" * 1000, ["deeper than 64"]),
    ],
)
def test_a_bad_override_is_named(override: str, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        expanded(base, override)
    (problem,) = caught.value.problems
    assert str(problem).startswith("--set ")
    for word in words:
        assert word in str(problem)


def test_all_bad_overrides_are_reported_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        expanded(base, "x", "e.f=1", "a.list.9=1")
    assert len(caught.value.problems) == 3


# ---- anything at all


def outcome(text: str, *overrides: str) -> Document | SpecError:
    try:
        return expanded(text, *overrides, a="1")
    except SpecError as error:
        return error


pieces = st.sampled_from(
    ["$", "$$", "vars", "env", ".", "{", "}", "a", "b", "0", "$vars.a", "$vars.b.c", "${vars.a}", "-", " "]
)
dollars = st.lists(pieces, max_size=8).map("".join)
values = st.recursive(
    dollars | st.integers() | st.none() | st.booleans() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["a", "b"]), values),
    st.dictionaries(st.sampled_from("xyz"), values),
    st.lists(st.tuples(st.sampled_from(["vars.a", "x", "x.a.0", "y.b", "vars"]), dollars).map("=".join), max_size=2),
)
def test_any_variables_and_overrides_give_a_document_or_problems(
    variables: dict, rest: dict, overrides: list[str]
) -> None:
    found = outcome(write_yaml({"vars": variables, **rest}), *overrides)
    if isinstance(found, SpecError):
        assert found.problems
        assert all(problem.mark for problem in found.problems)
    else:
        assert isinstance(found.data, dict)


@given(st.text(max_size=30))
def test_any_override_gives_a_document_or_problems(override: str) -> None:
    found = outcome(base, override)
    if isinstance(found, SpecError):
        assert all(str(problem).startswith(("--set", "t.yaml")) for problem in found.problems)


def test_not_a_number_is_read() -> None:
    assert math.isnan(expanded("a: .nan\n").data["a"])
