"""What `run` finds before its first step: one message each, at its line, and nothing has been run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from mmflow.cli.app import app
from mmflow.cli.errors import reported
from mmflow.flow.run import RunOptions, rehearse, run_spec
from mmflow.plugin import Encoder, Loss, TensorType
from mmflow.spec import SpecError, load_text

SPEC = """\
mmflow: 1
name: rehearsed
data:
  train: {use: shapes, size: 24, pixels: 16}
  test: {use: shapes, size: 12, pixels: 16, split: test}
  sounds: {use: sounds, size: 6, seconds: 0.5}
views:
  two: {of: image, copies: 2, apply: [flip]}
  mel: {of: audio, apply: [{use: log_mel, rate: 8000}]}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  copies: {use: same, weights: image, of: two}
  sound: {use: series_conv, of: mel, width: 8}
  lines: {use: text_transformer, of: hard_captions.0, width: 16, depth: 1, heads: 2, tokenizer: word}
  again: {use: same, weights: lines, of: caption}
  fixed: {use: convnet4, of: image, width: 8, freeze: body, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [image, text]}
train: {data: train, epochs: 1, batch_size: 8, losses: [align]}
eval:
  found: {use: retrieval, data: test, of: [image, text]}
  probe: {use: linear_probe, of: image, labels: label, data: train, test: test}
  heard: {use: geometry, data: sounds, of: sound, model: init}
"""


def said(*changes: tuple[str, str]) -> list[str]:
    """What the check or the rehearsal of the changed spec says."""
    text = SPEC
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    try:
        spec = load_text(text)
        rehearse([(spec, list(spec.stages))])
    except SpecError as refused:
        return [str(problem) for problem in refused.problems]
    return []


def test_a_sound_spec_passes() -> None:
    assert said() == []


TRAIN = "{use: shapes, size: 24, pixels: 16}"
TEST = "{use: shapes, size: 12, pixels: 16, split: test}"
IMAGE = "image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}"
LATE = [
    # the losses
    ("{use: infonce, of: [image, text]}", "{use: siglip, of: [image, sound2]}", "19", ["there is no `sound2`"]),
    (IMAGE, IMAGE.replace("dim: 8", "dim: 9"), "19", ["infonce does not fit", "[2, 9]", "[2, 8]"]),
    # the evaluators
    ("of: [image, text]}\n  probe", "of: [image, image.features]}\n  probe", "22",
     ["cannot compare", "[2, 8]", "[2, 16]"]),
    ("use: linear_probe, of: image,", "use: linear_probe, of: copies,", "23", ["copies has 2 copies, which"]),
    ("{use: retrieval, data: test, of: [image, text]}",
     "{use: zero_shot, data: test, of: [text, image], labels: label}", "22",
     ["zero_shot gives text", "it reads image (image)"]),
    ("{use: retrieval, data: test, of: [image, text]}",
     "{use: calibration, data: test, of: [text, image], labels: label}", "22",
     ["calibration gives text", "it reads image (image)"]),
    ("{use: geometry, data: sounds, of: sound, model: init}", "{use: geometry, data: test, of: lines}", "24",
     ["has no encoders.lines", "learned no vocabulary"]),
    ("{use: geometry, data: sounds, of: sound, model: init}", "{use: knn, data: train, of: again, labels: label, "
     "test: test}", "24", ["has no encoders.lines", "learned no vocabulary"]),
    ("{use: retrieval, data: test,", "{use: zero_shot, labels: label, names: [a, b], data: test,", "22",
     ["zero_shot has 2 names", "classes"]),
    # what trains
    ("{use: infonce, of: [image, text]}", "{use: infonce, of: [image.detach, text.detach]}", "20",
     ["no loss depends on a parameter that trains"]),
    ("{use: infonce, of: [image, text]}", "{use: uniformity, of: [fixed.features]}", "20",
     ["no loss depends on a parameter that trains"]),
    # weights
    (IMAGE, IMAGE[:-1] + ", init: missing.safetensors}", "11", ["missing.safetensors"]),
    # samplers
    ("batch_size: 8,", "batch_size: 8, sampler: {use: episodes, by: label, way: 40},", "20", ["40 are needed"]),
    ("batch_size: 8,", "batch_size: 8, sampler: {use: token_budget, by: caption, tokens: 3},", "20", ["budget of 3"]),
    # views
    ("rate: 8000", "rate: 16000", "9", ["16000 samples a second", "8000", "write rate: 8000"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "words"), LATE)
def test_what_would_fail_later_is_told_before_the_first_step(old: str, new: str, line: str, words: list[str]) -> None:
    messages = said((old, new))
    (message,) = [message for message in messages if all(word in message for word in words)] or [messages]
    assert isinstance(message, str), messages
    assert message.startswith(f"<text>:{line}:"), message


def _pictures(folder: Path, missing: int) -> str:
    from PIL import Image

    rows = ["file,caption,group"]
    for number in range(10):
        if number != missing:
            Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,number {number},{'red' if number % 2 else 'blue'}")
    (folder / "table.csv").write_text("\n".join(rows))
    columns = "{image: file, caption: caption, label: {column: group, modality: label}}"
    return f"{{use: table, url: {folder / 'table.csv'}, columns: {columns}}}"


@pytest.mark.parametrize("missing", [0, 3, 9])
def test_files_that_are_not_there_are_told_wherever_they_stand(tmp_path: Path, missing: int) -> None:
    messages = said((TRAIN, _pictures(tmp_path, missing)), ("train, test: test}", "train, test: train}"))
    assert any(f"{missing}.png" in message for message in messages), messages


def test_data_without_the_field_that_an_encoder_reads_are_told(tmp_path: Path) -> None:
    whole = _pictures(tmp_path, -1)
    bare = whole.replace("image: file, ", "")
    messages = said(
        (TRAIN, whole), ("train, test: test}", "train, test: bare}"), ("  sounds:", f"  bare: {bare}\n  sounds:")
    )
    assert any("'bare' has no field 'image'" in message for message in messages), messages


def test_run_says_it_with_exit_code_2_and_has_run_nothing(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.replace(IMAGE, IMAGE.replace("dim: 8", "dim: 9")))
    result = CliRunner().invoke(app, ["run", str(spec), "--local", "--store", str(tmp_path / "store")])
    assert result.exit_code == 2
    assert "does not fit its inputs" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("store/**/events.jsonl"))


class Fails(Loss, name="fails"):
    """Fails in a way that only its second step shows."""

    how: str = "key"

    def compute(self, a: torch.Tensor, how: str, step: int) -> torch.Tensor:
        if step and how == "key":
            return a.sum() * {}["scale"]
        return a.sum() + [0.0][step]


@pytest.mark.parametrize(("how", "says"), [("key", "there is no 'scale'"), ("list", "list index out of range")])
def test_an_error_in_the_middle_is_one_message_with_its_entry_and_a_traceback_in_the_run(
    how: str, says: str, tmp_path: Path, register: Callable[..., None]
) -> None:
    register(Fails)
    whole = "align: {use: infonce, of: [image, text]}"
    spec = load_text(SPEC.replace(whole, f"{whole}\n  broken: {{use: fails, how: {how}, of: image}}").replace(
        "losses: [align]", "losses: [align, broken]"
    ))  # fmt: skip
    result = run_spec(spec, RunOptions(store=str(tmp_path / "store"), engine="local", workers=0))
    assert result.exit_code == 1
    (note,) = [note for note in result.outcome.notes if note.startswith("stage train failed")]
    assert f"losses.broken (loss fails, {__name__}.Fails): {says}" in note
    (kept,) = tmp_path.glob("store/runs/*/train.error.txt")
    assert "Traceback" in kept.read_text()


def test_an_unexpected_error_of_the_command_line_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(typer.Exit) as ended, reported():
        {}["nothing"]
    assert ended.value.exit_code == 1
    (kept,) = tmp_path.glob("mmflow-*.txt")
    assert "KeyError" in kept.read_text()


class Normed(Encoder, name="normed"):
    """Pixels through a batch norm."""

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": TensorType("vector", inputs[0].axes, (8,))}

    def build(self, *inputs: TensorType, state: object) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.BatchNorm1d(8))


@pytest.mark.parametrize(
    ("rows", "batches", "refused"),
    [
        (25, "batch_size: 8, sampler: {use: shuffle, drop_last: false}", True),
        (24, "batch_size: 8, micro_batch_size: 7", True),
        (6, "batch_size: 1", True),
        (25, "batch_size: 8", False),
        (26, "batch_size: 8, sampler: {use: shuffle, drop_last: false}", False),
        (24, "batch_size: 8, micro_batch_size: 6", False),
    ],
)
@pytest.mark.parametrize(
    "encoder",
    ["resnet, of: image, size: 16, head: {use: linear, dim: 8}", "normed, of: image"],
)
def test_batch_norm_over_a_single_row_is_told_with_the_way_out(
    rows: int, batches: str, refused: bool, encoder: str, register: Callable[..., None]
) -> None:
    register(Normed)
    spec = SPEC.replace(IMAGE, f"image: {{use: {encoder}}}").replace("size: 24", f"size: {rows}")
    spec = spec.replace("batch_size: 8", batches)
    checked = load_text(spec)
    if not refused:
        rehearse([(checked, ["train"])])
        return
    with pytest.raises(SpecError) as error:
        rehearse([(checked, ["train"])])
    (message,) = map(str, error.value.problems)
    assert message.startswith("<text>:11:3: encoders.image: the stage has a micro-batch of one row:"), message
    assert "`sampler: {use: shuffle, drop_last: true}`" in message
    assert "micro_batch_size" in message
