"""`matrix`: the members of a text, and each mistake in it or in a member once, with its line and its fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.plugin import ComponentError
from mmflow.spec import Matrix, SpecError, load_members, load_text

BASE = """\
mmflow: 1
name: compared
vars: {dim: 16}
data:
  train: {use: shapes, split: train, size: 40}
encoders:
  image: {use: vit, of: image, width: 32, depth: 2, head: {use: linear, dim: $vars.dim}}
  text: {use: text_transformer, of: caption, width: 32, depth: 1, head: {use: linear, dim: $vars.dim}}
losses:
  align: {use: infonce, of: [image, text], temperature: 0.07}
train: {data: train, steps: 1}
"""
MATRIX = """\
matrix:
  plain: {}
  sigmoid: {losses.align: {use: siglip, of: [image, text]}}
  seed: [0, 1]
"""


def load(matrix: str, *overrides: str, base: str = BASE) -> Matrix:
    return load_members("s.yaml", overrides, text=base + matrix)


def problems(matrix: str, *overrides: str, base: str = BASE) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(matrix, *overrides, base=base)
    return [str(problem) for problem in caught.value.problems]


def test_named_members_and_axes_multiply() -> None:
    matrix = load(MATRIX)
    assert list(matrix.members) == ["plain,seed=0", "plain,seed=1", "sigmoid,seed=0", "sigmoid,seed=1"]
    assert [member.spec.seed for member in matrix] == [0, 1, 0, 1]
    assert [member.spec.losses["align"].use for member in matrix] == ["infonce", "infonce", "siglip", "siglip"]
    assert [member.group for member in matrix] == ["plain", "plain", "sigmoid", "sigmoid"]


def test_a_member_is_the_spec_that_its_overrides_make() -> None:
    matrix = load("matrix: {losses.align.temperature: [0.05, 0.1], vars.dim: [8, 16]}\n")
    for temperature in (0.05, 0.1):
        for dim in (8, 16):
            overrides = [f"losses.align.temperature={temperature}", f"vars.dim={dim}"]
            member = matrix.members[f"losses.align.temperature={temperature},vars.dim={dim}"]
            assert member.spec == load_text(BASE, overrides=overrides)


def test_one_spec_is_a_member_without_a_name() -> None:
    for text in ("", "matrix: {}\n", "matrix:\n"):
        matrix = load(text)
        assert list(matrix.members) == [""]
        assert matrix.first == load_text(BASE)


def test_values_that_are_no_words_have_names() -> None:
    matrix = load(
        "matrix:\n  losses.align: [{use: infonce, of: [image, text]}, {use: siglip, of: [image, text]}]\n"
        "  train.losses: [null, [align]]\n"
    )
    assert list(matrix.members)[:2] == [
        "losses.align=infonce,train.losses=null",
        "losses.align=infonce,train.losses=align",
    ]
    same = load("matrix: {train.optimizer: [{use: adamw, lr: 1e-3}, {use: adamw, lr: 1e-4}]}\n")
    assert list(same.members) == ["train.optimizer=adamw-0", "train.optimizer=adamw-1"]
    paths = load("matrix: {vars.note: [a/b c, 'a:b,c=d']}\n")
    assert list(paths.members) == ["vars.note=a-b-c", "vars.note=a-b-c-d"]


def test_null_removes_and_a_mapping_replaces() -> None:
    base = BASE.replace("\ntrain: {", "\n  other: {use: infonce, of: [image, text]}\ntrain: {")
    new = "new: {losses: {x: {use: siglip, of: [image, text]}}}"
    matrix = load(f"matrix: {{both: {{}}, one: {{losses.other: null}}, {new}}}\n",
                  base=base)  # fmt: skip
    assert [list(member.spec.losses) for member in matrix] == [["align", "other"], ["align"], ["x"]]


def test_a_matrix_comes_through_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE + MATRIX)
    (tmp_path / "more.yaml").write_text("extends: base.yaml\nmatrix: {plain: null, wide: {vars.dim: 64}}\n")
    matrix = load_members(str(tmp_path / "more.yaml"))
    assert list(matrix.members) == ["sigmoid,seed=0", "sigmoid,seed=1", "wide,seed=0", "wide,seed=1"]


def test_an_override_is_for_all_members_or_for_one() -> None:
    every = load(MATRIX, "train.steps=7")
    assert {getattr(member.spec.stages["train"], "steps", 0) for member in every} == {7}
    one = load(MATRIX, "sigmoid,seed=1:train.steps=7", "train.batch_size=8")
    assert [getattr(member.spec.stages["train"], "steps", 0) for member in one] == [1, 1, 1, 7]
    assert load(MATRIX, "sigmoid,seed=1:seed=5").members["sigmoid,seed=1"].spec.seed == 5
    assert list(load(MATRIX, "matrix.seed=[4]").members) == ["plain,seed=4", "sigmoid,seed=4"]


def test_only_some_members() -> None:
    matrix = load(MATRIX)
    assert list(matrix.only(["sigmoid,seed=1", "plain,seed=0"]).members) == ["plain,seed=0", "sigmoid,seed=1"]
    with pytest.raises(ComponentError) as caught:
        matrix.only(["sigmiod,seed=1"])
    assert caught.value.hint == "did you mean sigmoid,seed=1?"
    with pytest.raises(ComponentError, match="no member x") as caught:
        load("").only(["x"])
    assert caught.value.hint == "this spec has no matrix"


# the section, "line:column: path" of the one message, words in it
BROKEN = [
    ("matrix: 3", "12:9: matrix", ["found 3", "write {NAME: {path: value}} or {path: [value, value]}"]),
    ("matrix: [a, b]", "12:9: matrix", ["found a list of 2", "members or axes"]),
    ("matrix: {seed: 3}", "12:16: matrix.seed", ["found 3", "write seed: [3] for an axis"]),
    ("matrix: {seed: []}", "12:16: matrix.seed", ["an axis without values"]),
    ("matrix: {seed: [1, 2, 1]}", "12:23: matrix.seed.2", ["has 1 twice", "leave one of them out"]),
    ("matrix: {wide/2: {}}", "12:10: matrix.wide/2", ["cannot name a member", "use letters"]),
    ("matrix: {w: {vars..dim: 3}}", "12:14: matrix.w.vars..dim", ["an override is a path"]),
    ("matrix: {w: {matrix.x: 3}}", "12:14: matrix.w.matrix.x", ["is one for all members"]),
    ("matrix: {w: {mmflow: 2}}", "12:14: matrix.w.mmflow", ["is one for all members"]),
    ("matrix: {seed: [" + ", ".join(map(str, range(300))) + "]}", "12:1: matrix", ["300 members", "at most 256"]),
    ("matrix: {seed: [" + ", ".join(map(str, range(20))) + "], vars.dim: [" + ", ".join(map(str, range(8, 28))) + "]}",
     "12:1: matrix", ["400 members (20 times 20)", "split the matrix"]),
    ("matrix: {w: {losses.algin.temperature: 0.1}}", "12:14: losses.algin",
     ["no \"algin\" in `losses`", "mean align?"]),
    ("matrix: {w: {losses.align.temprature: 0.1}}", "12:14: losses.align.temprature",
     ["has no field", "did you mean temperature?"]),
    ("matrix: {w: {loses.align: 0.1}}", "12:14: loses", ["no section", "did you mean losses?"]),
    ("matrix: {losses.align.temperature: [0.1, -1]}", "12:42: losses.align.temperature",
     ["found -1", "above 0", "in the member losses.align.temperature=-1, "]),
    ("matrix: {a: {}, b: {losses.align.of: [image, txt]}, c: {seed: 2}}", "12:46: losses.align.of.1",
     ["no `txt`", "did you mean text?", "in the member b, written at s.yaml:12:17"]),
    ("matrix: {seed: [0, $vars.sed]}", "12:20: seed", ["no variable vars.sed", "in the member seed=vars.sed"]),
    ("matrix: {seed: [0, $env.N]}", "12:20: seed", ["the environment has no N"]),
    ("matrix: {a: {losses.align.temperature.init.x: 1}}", "12:14: losses.align.temperature.init.x",
     ["losses.align.temperature is 0.07 and has no"]),
]  # fmt: skip


@pytest.mark.parametrize(("matrix", "place", "says"), BROKEN)
def test_a_mistake_has_one_message_with_its_line(matrix: str, place: str, says: list[str]) -> None:
    found = problems(f"{matrix}\n")
    assert len(found) == 1, found
    assert found[0].startswith(f"s.yaml:{place}: "), found[0]
    for words in says:
        assert words in found[0], found[0]


def test_a_mistake_of_all_members_is_told_once_and_of_none_in_particular() -> None:
    (found,) = problems(MATRIX, base=BASE.replace("steps: 1", "stesp: 1, epochs: 1"))
    assert found.startswith("s.yaml:11:22: train.stesp: ")
    assert "member" not in found


def test_mistakes_of_several_members_are_told_together() -> None:
    matrix = "matrix: {a: {train.steps: 0}, b: {train.steps: -1}, seed: [0, 1, 2, 3]}\n"
    zero, negative = problems(matrix)
    assert "in the members a,seed=0, a,seed=1, a,seed=2 and 1 more, written at s.yaml:12:10" in zero
    assert "found -1" in negative


OVERRIDES = [
    ("seed=3", ["seed is an axis of the matrix", "--set 'matrix.seed=[...]'", "'MEMBER:seed=...'"]),
    ("sigmiod,seed=1:train.steps=2", ["there is no member", "did you mean sigmoid,seed=1?"]),
    ("plain:train.steps=2", ["there is no member", "did you mean plain,seed=0?"]),
    ("sigmoid,seed=1:train.stps=2", ["has no field", "in the member sigmoid,seed=1"]),
    ("matrix.seed=3", ["found 3", "for an axis"]),
    ("losses.algin.temperature=3", ['no "algin" in `losses`', "did you mean align?"]),
]


@pytest.mark.parametrize(("override", "says"), OVERRIDES)
def test_a_mistake_in_an_override_is_told_with_it(override: str, says: list[str]) -> None:
    found = problems(MATRIX, override)
    assert len(found) == 1, found
    assert override in found[0] or "matrix.seed" in found[0]
    for words in says:
        assert words in found[0], found[0]


def test_an_override_for_a_member_where_there_is_no_matrix() -> None:
    (found,) = problems("", "wide:train.steps=2")
    assert "this spec has no matrix" in found


def test_a_matrix_where_one_spec_is_read() -> None:
    with pytest.raises(SpecError) as caught:
        load_text(BASE + MATRIX, file="s.yaml")
    assert [str(problem) for problem in caught.value.problems] == [
        "s.yaml:12:1: matrix: a matrix of specs stands where one spec is read; read its members with `load_members`"
    ]
