"""A train stage learns, resumes exactly, starts from another stage, and refuses what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmflow.plugin import ComponentError, StageStopped
from mmflow.spec import Spec
from mmflow.train.trainer import Pace

pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
name: runs
data:
  train: {use: shapes, size: 64, pixels: 16}
vars:
  tower: &tower {width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
encoders:
  image: {<<: *tower, use: vit, of: image, size: 16, patch: 8, dropout: 0.1}
  text: {<<: *tower, use: text_transformer, of: caption, length: 16}
  slow: {use: ema, weights: image, momentum: 0.9}
memories:
  queue: {use: queue, size: 32, of: text}
losses:
  align:
    use: infonce
    of: [image, text]
    temperature: {use: learned, init: 0.07, min: 0.06, max: 0.08}
    negatives: queue
  slow: {use: infonce, of: [text, slow], directions: [forward]}
train:
  data: train
  epochs: 3
  batch_size: 16
  micro_batch_size: 8
  optimizer: {use: adamw, lr: 1e-2}
  schedule: {use: cosine, warmup: 0.2}
  clip: 1.0
  log_every: 1
"""


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


def history(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]


def test_the_loss_falls_and_learned_values_stay_in_bounds(
    load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path
) -> None:
    output = context(load(SPEC, "train.epochs=8"), tmp_path / "a").run()
    lines = history(output)
    assert [line["step"] for line in lines] == list(range(1, 33))
    assert sum(line["loss/align"] for line in lines[-4:]) < sum(line["loss/align"] for line in lines[:4])
    assert all(0.06 - 1e-6 <= line["value/losses.align.temperature"] <= 0.08 + 1e-6 for line in lines)
    assert lines[0]["lr"] < max(line["lr"] for line in lines) > lines[-1]["lr"]
    summary = json.loads((output / "train.json").read_text())
    assert summary["steps"] == 32
    assert summary["trained_parameters"] < summary["parameters"]


def test_the_share_of_waiting_is_told_after_the_first_steps(
    load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path
) -> None:
    output = context(load(SPEC, "train.epochs=4"), tmp_path).run()
    lines = history(output)
    assert all("waiting" not in line for line in lines[:10])
    assert all(0 < line["waiting"] < 1 for line in lines[10:])
    summary = json.loads((output / "train.json").read_text())
    assert summary["waiting"] == lines[-1]["waiting"]
    pace = Pace()
    pace.begin(0.0)
    for step in range(1, 31):
        pace.step(step * 1e-9)
    assert pace.state()[1] == pytest.approx(20e-9)
    # After a stop, the share goes on from what was measured; the first steps of the new process do not count.
    again = Pace(*pace.state())
    again.begin(0.0)
    again.step(1e-9)
    assert again.measured() == pace.measured()


def test_two_runs_give_the_same_bits(load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path) -> None:
    spec = load(SPEC)
    one, two = (weights(context(spec, tmp_path / name).run()) for name in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("stop_after", [1, 4, 7])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path, stop_after: int
) -> None:
    spec = load(SPEC)
    whole = context(spec, tmp_path / "whole").run()
    with pytest.raises(StageStopped, match=f"step {stop_after} of 12"):
        context(spec, tmp_path / "parts", stop_after=stop_after).run()
    parts = context(spec, tmp_path / "parts").run()
    one, two = weights(whole), weights(parts)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    steps = [(line["step"], line["loss"]) for line in history(parts)]
    assert steps == [(line["step"], line["loss"]) for line in history(whole)]


STREAM = """
mmflow: 1
name: streams
data:
  train: {use: table, url: "FOLDER/t{0..5}.jsonl", stream: {partitions: 3, buffer: 4}}
encoders:
  one: {use: text_transformer, of: text, width: 16, depth: 1, heads: 2, length: 8, dropout: 0.1}
  two: {use: text_transformer, of: text, width: 16, depth: 1, heads: 2, length: 8}
losses:
  align: {use: infonce, of: [one, two]}
train: {data: train, batch_size: 4, steps: 20, log_every: 1}
"""


@pytest.mark.parametrize("stop_after", [4, 8, 13])
def test_a_run_over_a_stream_goes_on_as_if_nothing_had_happened(
    load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path, stop_after: int
) -> None:
    """Eight batches in the first epoch, which nobody knows before; a stop in its middle, at its end, in the next."""
    for n, size in enumerate((8, 5, 7, 9, 6, 4)):
        rows = [json.dumps({"text": f"word{n} word{k}"}) for k in range(size)]
        (tmp_path / f"t{n}.jsonl").write_text("\n".join(rows))
    spec = load(STREAM.replace("FOLDER", str(tmp_path)))
    whole = context(spec, tmp_path / "whole").run()
    epochs = [line["epoch"] for line in history(whole)]
    assert epochs == sorted(epochs)
    assert epochs[-1] >= 2
    with pytest.raises(StageStopped, match=f"step {stop_after} of 20"):
        context(spec, tmp_path / "parts", stop_after=stop_after).run()
    parts = context(spec, tmp_path / "parts").run()
    one, two = weights(whole), weights(parts)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert [line["epoch"] for line in history(parts)] == epochs


def test_a_stage_starts_from_the_model_of_another(
    load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path
) -> None:
    text = SPEC.replace(
        "train:\n  data: train\n  epochs: 3", "stages:\n warm:\n  use: train\n  data: train\n  epochs: 1"
    )
    text += (
        " main: {use: train, data: train, start: warm, steps: 1, batch_size: 16, optimizer: {use: adamw, lr: 0.0}}\n"
    )
    text = text.replace("\n  ", "\n  ")
    spec = load(text)
    warm = weights(context(spec, tmp_path, "warm").run())
    main = weights(context(spec, tmp_path, "main").run())
    trained = [name for name in warm if not name.startswith("encoders.slow")]
    assert all(torch.equal(warm[name], main[name]) for name in trained)


def test_groups_say_what_trains(load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path) -> None:
    spec = load(SPEC, "train.groups={head: {match: 'encoders.image.head.*', lr: 0.1}}", "train.epochs=1")
    before = weights(
        context(load(SPEC, "train.optimizer.lr=0", "train.steps=1", "train.epochs=null"), tmp_path / "a").run()
    )
    after = weights(context(spec, tmp_path / "b").run())
    changed = {n for n in after if not torch.equal(before[n], after[n]) and not n.startswith("encoders.slow")}
    assert changed == {"encoders.image.head.linear.weight", "encoders.image.head.linear.bias"}


def test_a_loss_that_is_not_finite_stops_the_run_with_its_name(
    load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path
) -> None:
    spec = load(SPEC, "train.optimizer={use: sgd, lr: 1e12}", "train.schedule=1.0", "train.clip=null")
    with pytest.raises(ComponentError, match=r"the norm of the gradient is not finite after step"):
        context(spec, tmp_path).run()


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_precisions_agree(
    load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path, precision: str
) -> None:
    overrides = ["train.steps=1", "train.epochs=null", "encoders.image.dropout=0.0"]
    plain = history(context(load(SPEC, *overrides), tmp_path / "plain").run())[0]
    other = history(context(load(SPEC, *overrides, f"train.precision={precision}"), tmp_path / "other").run())[0]
    for name in ("loss", "loss/align", "loss/slow", "grad_norm"):
        assert other[name] == pytest.approx(plain[name], rel=0.03 if precision == "bfloat16" else 1e-4), name


def test_frozen_takes_the_weights_of_another_stage(
    load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path
) -> None:
    text = SPEC.replace(
        "train:\n  data: train\n  epochs: 3", "stages:\n fit:\n  use: train\n  data: train\n  epochs: 1"
    )
    text += (
        " again:\n  use: train\n  data: train\n  start: init\n  steps: 2\n  batch_size: 16\n"
        "  encoders: {teacher: {use: frozen, weights: fit.image}}\n"
        "  losses: {align: null, slow: null, distil: {use: mse, of: [image, teacher]}}\n"
    )
    spec = load(text)
    fit = weights(context(spec, tmp_path, "fit").run())
    again = weights(context(spec, tmp_path, "again").run())
    for name in ("blocks.0.mlp.0.weight", "head.linear.weight"):
        assert torch.equal(again[f"encoders.teacher.{name}"], fit[f"encoders.image.{name}"])
        assert not torch.equal(again[f"encoders.image.{name}"], fit[f"encoders.image.{name}"])


def test_a_stage_with_a_seed_of_its_own_draws_otherwise(
    load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path
) -> None:
    overrides = ["train.steps=1", "train.epochs=null"]
    specs = {name: load(SPEC, *overrides, *own) for name, own in SEEDED.items()}
    found = {name: weights(context(spec, tmp_path / name).run()) for name, spec in specs.items()}
    name = "encoders.text.head.linear.weight"
    assert torch.equal(found["own"][name], found["of the spec"][name])
    assert not torch.equal(found["own"][name], found["none"][name])


SEEDED = {"none": [], "own": ["train.seed=7"], "of the spec": ["seed=7"]}
