"""A field of the wrong name or form: the message shows the way to the right one; numbers are finite."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.spec import load_text
from mmflow.spec.text.problems import SpecError

SPEC = """
mmflow: 1
name: hints
data: {{train: {{use: table, url: "{url}"}}}}
encoders:
  one: {{{one}}}
  text: {{use: text_transformer, of: {text}, width: 8, depth: 1, heads: 2, head: {{use: linear, dim: 4}}}}
losses: {{align: {{use: infonce, of: [one, text], temperature: {temperature}}}}}
train: {{data: train, epochs: {epochs}, batch_size: 2, optimizer: {{use: adamw, lr: {lr}}}}}
"""
CONV = "use: series_conv, of: {}, width: 8, head: {{use: linear, dim: 4}}"
VIT = "use: vit, of: {}, size: 16, patch: 8, width: 8, depth: 1, heads: 2, head: {{use: linear, dim: 4}}"


def problem(tmp_path: Path, table: str, one: str, **fields: str) -> str:
    (tmp_path / "t.csv").write_text(table)
    values = {"text": "caption", "temperature": "0.1", "epochs": "1", "lr": "1e-3"} | fields
    with pytest.raises(SpecError) as caught:
        load_text(SPEC.format(url=tmp_path / "t.csv", one=one, **values))
    (found,) = caught.value.problems
    return str(found)


@pytest.mark.parametrize(
    ("column", "cell", "one", "hint"),
    [
        ("filename", "a.png", VIT.format("image"), "`columns: {image: filename}`"),
        ("photo", "a.jpeg", VIT.format("image"), "`columns: {image: photo}`"),
        ("recording", "a.wav", CONV.format("audio"), "`columns: {audio: recording}`"),
    ],
)
def test_a_field_of_that_kind_under_another_name_is_proposed(
    tmp_path: Path, column: str, cell: str, one: str, hint: str
) -> None:
    assert hint in problem(tmp_path, f"{column},caption\n{cell},x\n", one)


@pytest.mark.parametrize(
    ("table", "one", "text", "hint"),
    [
        ("audio,caption\na.wav,x\n", CONV.format("audio"), "caption", "{of: audio, apply: [log_mel]}"),
        ("sound,caption\na.flac,x\n", CONV.format("sound"), "caption", "{of: sound, apply: [log_mel]}"),
        ("image,label\na.png,cat\n", VIT.format("image"), "label", "{of: label, apply: [class_name]}"),
    ],
)
def test_a_view_that_makes_it_readable_is_proposed(tmp_path: Path, table: str, one: str, text: str, hint: str) -> None:
    assert f"a view makes {'text' if text == 'label' else 'series'} of it: {hint}" in problem(
        tmp_path, table, one, text=text
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", ".inf"), ("temperature", ".inf"), ("temperature", "-.inf"), ("lr", ".nan"), ("lr", ".inf"),
     ("temperature", "{use: learned, init: .nan}")],
)  # fmt: skip
def test_numbers_are_finite(tmp_path: Path, field: str, value: str) -> None:
    said = problem(tmp_path, "image,caption\na.png,x\n", VIT.format("image"), **{field: value})
    assert "expected a finite number" in said
    assert f"found {value.strip('{}').rpartition(' ')[2]}" in said
    assert said.startswith("<text>:")


def test_of_labels_the_fields_that_are_some_are_proposed(tmp_path: Path) -> None:
    measured = "\neval: {probe: {use: linear_probe, data: train, test: train, of: text, labels: caption}}\n"
    (tmp_path / "t.csv").write_text("caption,number,class,label\nx,1,one,two\ny,2,two,one\n")
    text = SPEC.format(url=tmp_path / "t.csv", one="use: same, weights: text, of: caption", text="caption",
                       temperature="0.1", epochs="1", lr="1e-3")  # fmt: skip
    with pytest.raises(SpecError) as caught:
        load_text(text + measured)
    (found,) = caught.value.problems
    assert "`caption`, a field of text, expected a field with labels; there are number, class, label" in str(found)


def test_an_entry_of_a_list_is_named_with_the_list(tmp_path: Path) -> None:
    rules = "\nparts: {judge: {use: service/scripted, rules: [{when: blue, answer: yes}, {when: red}]}}\n"
    (tmp_path / "t.csv").write_text("caption\nx\ny\n")
    text = SPEC.format(url=tmp_path / "t.csv", one="use: same, weights: text, of: caption", text="caption",
                       temperature="0.1", epochs="1", lr="1e-3")  # fmt: skip
    with pytest.raises(SpecError, match=r"parts\.judge\.rules\.1: rules\.1 needs `answer`"):
        load_text(text + rules)
