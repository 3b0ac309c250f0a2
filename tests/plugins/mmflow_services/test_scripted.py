"""The service `scripted`, and the stage `ask` on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmflow_services.scripted import Scripted

from mmflow.artifacts import ColumnArtifact
from mmflow.flow.run import RunOptions, open_store, run_spec
from mmflow.plugin import ComponentError
from mmflow.spec import SpecError, load_text

SPEC = """
mmflow: 1
data:
  rows: {use: table, url: rows.csv, columns: {word: {modality: text}, kind: {modality: label, names: [plant, stone]},
    size: {modality: number}}}
parts:
  judge: {use: service/scripted, rules: []}
stages:
  asked: {use: ask, data: rows, of: [word, kind, size], service: parts.judge, prompt: "{word} {{x}} {kind} {size}"}
"""


def test_the_first_rule_that_fits_answers() -> None:
    service = Scripted(
        rules=[
            {"prompt": "a rose", "answer": "red"},
            {"when": r"^an? (?P<what>\w+)", "answer": r"\g<what>, which is \1"},
            {"when": "score", "answer": {"text": "7", "sure": True}},
            {"when": "again", "answer": ["one", "two"]},
        ],
        otherwise="?",
    )
    asked = ["a rose", "a tree", "the score", "nothing"]
    assert [service.ask({"prompt": text})["text"] for text in asked] == ["red", "tree, which is tree", "7", "?"]
    assert [service.ask({"prompt": "again", "draw": draw})["text"] for draw in range(3)] == ["one", "two", "one"]
    messages = [{"role": "user", "content": "a rose"}, {"role": "user", "content": "the score"}]
    assert service.ask({"messages": messages}) == {"text": "7", "sure": True}
    with pytest.raises(ComponentError, match="needs `prompt` or `messages`"):
        service.ask({"question": "why"})


def test_rules_of_a_file_come_after_those_of_the_spec_and_are_read_again_when_edited(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"prompt": "a", "answer": "file"}\n\n{"when": "b", "answer": "file"}\n')
    service = Scripted(rules=[{"prompt": "a", "answer": "spec"}], file=str(file))
    assert [service.ask({"prompt": text})["text"] for text in "ab"] == ["spec", "file"]
    with pytest.raises(ComponentError, match="no rule fits the prompt 'c'"):
        service.ask({"prompt": "c"})
    file.write_text('{"prompt": "c", "answer": "new"}\n{"prompt": "c"}\n')
    with pytest.raises(ComponentError, match=r"answers.jsonl:2 is no rule: answer: Field required"):
        service.ask({"prompt": "c"})
    file.write_text('{"prompt": "c", "answer": "newest"}\n')
    assert service.ask({"prompt": "c"}) == {"text": "newest"}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("word,kind,size\nfern,plant,0.25\n{size},stone,3\n,stone,1\n")

    def asked(*overrides: str) -> list[Any]:
        outcome = run_spec(load_text(SPEC, overrides=overrides), RunOptions(store="store", engine="local"))
        assert outcome.exit_code == 0, outcome.outcome.notes
        return list(ColumnArtifact(open_store("store").fetch(outcome.plan["asked"].key), "answer").read().values())

    return asked


def test_prompts_hold_texts_class_names_and_numbers_and_absent_rows_stay(
    asked: Callable[..., list[Any]],
) -> None:
    echo = "parts.judge.rules=[{when: '.*', answer: '\\g<0>'}]"
    assert asked(echo) == ["fern {x} plant 0.25", "{size} {x} stone 3", None]


def test_answers_are_read_as_numbers_and_choices_and_drawn_several_times(asked: Callable[..., list[Any]]) -> None:
    first, second = "{when: fern, answer: ['about 4.5', 'Yes: 7', 'none']}", "{when: stone, answer: '-2e1 or yes'}"
    rules = f"parts.judge.rules=[{first}, {second}]"
    assert asked(rules, "stages.asked.read=number") == [4.5, -20.0, None]
    assert asked(rules, "stages.asked.choices=[no, yes]") == [None, 1, None]
    found = asked(rules, "stages.asked.draws=2", "stages.asked.read=number")
    assert [None if row is None else list(row) for row in found] == [[4.5, 7.0], [-20.0, -20.0], None]


def test_answers_join_the_data_as_a_field_of_their_type(asked: Callable[..., list[Any]], tmp_path: Path) -> None:
    echo = "parts.judge.rules=[{when: fern, answer: yes}, {when: '.*', answer: 'no: \\g<0>'}]"
    more = (
        "{use: ask, data: rows, fields: {said: first.answer}, of: [said, word], service: parts.judge, "
        "prompt: '{said} of {word}'}"
    )
    spec = load_text(
        SPEC.replace("  asked:", "  first:") + f"  second: {more}\n",
        overrides=[echo, "stages.first.choices=[no, yes]"],
    )
    assert spec.scope("second").fields["said"].names == ("no", "yes")
    outcome = run_spec(spec, RunOptions(store="store", engine="local"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    found = ColumnArtifact(open_store("store").fetch(outcome.plan["second"].key), "answer").read()
    assert list(found.values()) == ["yes", "no: no of {size}", None]


def test_one_member_of_a_group_can_stand_in_a_prompt_and_a_picture_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"captions": ["a fern", "green"]}\n{"captions": ["a stone"]}\n')
    text = """
mmflow: 1
data:
  rows: {use: table, url: rows.jsonl, columns: {captions: {modality: text, axis: caption}}}
parts: {judge: {use: service/scripted, rules: [{when: ".*", answer: "\\\\g<0>"}]}}
stages: {asked: {use: ask, data: rows, of: captions.1, service: parts.judge, prompt: "{captions.1}?"}}
"""
    outcome = run_spec(load_text(text), RunOptions(store="store", engine="local"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    found = ColumnArtifact(open_store("store").fetch(outcome.plan["asked"].key), "answer").read()
    assert list(found.values()) == ["green?", None]
    with pytest.raises(SpecError, match=r"`captions` is a group of the axis caption.*name one member: captions.0"):
        load_text(text.replace("captions.1", "captions"))
    shapes = "mmflow: 1\ndata: {rows: {use: shapes, size: 4}}\nviews: {v: {of: image, apply: [flip]}}\n"
    with pytest.raises(SpecError, match="ask cannot read `v`: found image, expected text or label or number or id"):
        load_text(shapes + text[text.index("parts") :].replace("captions.1", "v"))
