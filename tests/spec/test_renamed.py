"""Old names of components, fields and columns work and are told once, with their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from typer.testing import CliRunner

from mmflow.cli.app import app
from mmflow.plugin import Source, Streaming, TensorType
from mmflow.spec import Owner, Spec, Target, load_text
from mmflow.spec.components.schema import json_schema

SPEC = """
mmflow: 1
data: {d: {use: shapes, size: 8, pixels: 16}}
encoders:
  image: {use: convnet4, of: image, width: 4}
  narrow: {use: linear, of: image, dim: 4}
losses: {l: {use: uniformity, of: narrow}}
train: {data: d, steps: 1, batch_size: 4, sampler: {use: balanced, by: label, unlabelled: 2.0}}
stages:
  feats: {use: embed, data: d, of: image}
  second:
    use: train
    data: d
    steps: 1
    sampler: {use: hard_neighbours, of: feats.image, group: 2}
"""


def notes(spec: Spec) -> list[str]:
    return [str(note) for note in spec.notes]


def test_an_old_name_of_a_component_and_of_a_field() -> None:
    spec = load_text(SPEC, "s.yaml")
    assert notes(spec) == [
        "s.yaml:8:79: train.sampler.unlabelled: `unlabelled` is now called `unlabeled`",
        "s.yaml:15:20: stages.second.sampler.use: `hard_neighbours` is now called `hard_neighbors`",
    ]
    today = load_text(SPEC.replace("unlabelled", "unlabeled").replace("hard_neighbours", "hard_neighbors"), "s.yaml")
    assert today == spec
    assert notes(today) == []


class Old(Source, name="old_columns"):
    """A source whose column `picture` is now called `image`."""

    renamed_columns: ClassVar[Mapping[str, str]] = {"picture": "image"}

    stream: Streaming = Streaming()

    def fields(self) -> Mapping[str, TensorType]:
        return {"image": TensorType("image", dtype="uint8"), "caption": TensorType("text", dtype="str")}

    def open(self) -> None:
        return None


def test_an_old_name_of_a_column_in_encoders_and_views(register: Callable[..., None]) -> None:
    register(Old)
    text = (
        "data: {d: {use: old_columns}}\nviews: {two: {of: picture, copies: 2}}\n"
        "encoders: {a: {use: convnet4, of: two}, b: {use: convnet4, of: fields.picture}}\n"
        "losses: {l: {use: infonce, of: [a.0, b]}}\ntrain: {data: d, steps: 1}\n"
    )
    spec = load_text(text, "s.yaml")
    scope = spec.scope("train")
    assert scope.targets(Owner("views", "two"))["of", 0] == Target("fields", "image")
    assert scope.targets(Owner("encoders", "b"))["of", 0] == Target("fields", "image")
    assert scope.views["two"].of == ("image",)
    assert [note.partition(": ")[2] for note in notes(spec)] == [
        "views.two.of: `picture` is now called `image`",
        "encoders.b.of: `picture` is now called `image`",
    ]


def test_an_old_name_inside_a_group_of_fields(register: Callable[..., None]) -> None:
    register(Old)
    spec = load_text("data: {d: {use: old_columns, stream: {lanes: 3}}}\n", "s.yaml")
    assert spec.data["d"] == Old(stream=Streaming(partitions=3))
    assert notes(spec) == ["s.yaml:1:39: data.d.stream.lanes: `lanes` is now called `partitions`"]


def test_an_entry_of_that_name_is_no_old_column(register: Callable[..., None]) -> None:
    register(Old)
    text = (
        "data: {d: {use: old_columns}}\nviews: {picture: {of: image}}\n"
        "encoders: {a: {use: convnet4, of: picture}, b: {use: l2norm, of: a}}\n"
        "losses: {l: {use: infonce, of: [a, b]}}\ntrain: {data: d, steps: 1}\n"
    )
    spec = load_text(text)
    assert spec.scope("train").targets(Owner("encoders", "a"))["of", 0] == Target("views", "picture")
    assert notes(spec) == []


def test_check_tells_each_once(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SPEC)
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 0, done.output
    assert done.stderr.count("is now called") == 2
    assert "note: " in done.stderr


def test_on_of_join_is_by(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("label,weight\nred ring,1\nblue ring,2\n")
    columns = "columns: {label: {modality: text}, weight: {modality: number}}"
    source = f"{{use: join, of: {{use: shapes, size: 9}}, other: {{use: table, url: {path}, {columns}}}, on: label}}"
    spec = load_text(f"data: {{d: {source}}}\n", "s.yaml")
    today = load_text(f"data: {{d: {source}}}\n".replace("on: label", "by: label"), "s.yaml")
    assert today == spec
    assert [note.partition(": ")[2] for note in notes(spec)] == ["data.d.on: `on` is now called `by`"]
    assert notes(today) == []


def test_no_word_of_the_language_is_a_boolean_of_yaml_1_1() -> None:
    read_otherwise = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"}
    found: set[str] = set()
    waiting: list[object] = [json_schema()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            properties = value.get("properties")
            found |= set(properties) if isinstance(properties, dict) else set()
            waiting += value.values()
            found |= {choice for choice in value.get("enum", ()) if isinstance(choice, str)}
        elif isinstance(value, list):
            waiting += value
    assert {"by", "several", "use", "infonce"} <= found
    assert not read_otherwise & {name.casefold() for name in found}
