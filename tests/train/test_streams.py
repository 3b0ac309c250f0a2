"""Streams of data side by side: each has its fields, rows, sampler and cursor; gradients are those of the whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mmflow.data import Feed, Loader, requests_of
from mmflow.identity.keys import Keys
from mmflow.model.model import Model
from mmflow.plugin import Bank, Clock, Encoder, Encoding, Loss, Ref, Source, StageStopped, TensorType
from mmflow.plugin.streams import Streams
from mmflow.spec import Owner, Spec, load_text
from mmflow.train.settings import Training
from mmflow.train.updates import Moves, Updates


class Reader:
    def __init__(self, size: int, seed: int) -> None:
        self.rows = np.random.default_rng(seed).normal(size=(size, 4)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def id(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {"a": self.rows[index], "b": None if index % 4 == 0 else self.rows[index] * 2, "label": index % 3}

    def static(self) -> Mapping[str, Any]:
        return {"names": list(self.rows[:3])}


class Table(Source, name="streamed_vectors"):
    """Vectors `a` and `b` (a quarter absent), a label, and static `names`."""

    size: int = 12
    seed: int = 0

    def fields(self) -> Mapping[str, TensorType]:
        vector = TensorType("vector", size=(4,))
        label = TensorType("label", dtype="int64", names=("x", "y", "z"))
        return {"a": vector, "b": vector, "label": label, "names": vector.with_(axes=("class",))}

    def open(self) -> Reader:
        return Reader(self.size, self.seed)


class Flat(Encoder, name="flat"):
    """x W + b."""

    dim: int = 4

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(modality="vector", size=(self.dim,))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> torch.nn.Module:
        return torch.nn.Linear(inputs[0].size[-1] or 0, self.dim)


class Apart(Loss, name="mean_distance"):
    """Squared distance of the means of two sets of rows."""

    paired = False

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        return (a.mean(0) - b.mean(0)).square().sum()


class Pulled(Loss, name="pulled"):
    """Mean square of a row's distance to what a memory holds."""

    bank: Ref[Bank] | None = None

    def compute(self, a: Tensor, bank: Encoding | None) -> Tensor:
        return a.square().mean(-1) if bank is None else (a - bank.pooled.mean(0).to(a.dtype)).square().mean(-1)


SPEC = """
mmflow: 1
data:
  few: {use: streamed_vectors, size: 12}
  many: {use: streamed_vectors, size: 30, seed: 1}
encoders:
  x: {use: flat, of: few.a, constrain: unit_rows}
  guess: {use: flat, of: x, dim: 3}
  y: {use: same, weights: x, of: pool.b}
  normed: {use: mlp, of: y, dims: [5, 4], norm: batch}
  slow: {use: ema, weights: x, of: pool.b, momentum: 0.9}
memories: {queue: {use: queue, size: 40, of: slow, ready: any}}
losses:
  known: {use: cross_entropy, of: guess, labels: few.label}
  near: {use: mse, of: [normed, slow.detach], weight: 0.3}
  pulled: {use: pulled, of: y, bank: queue}
  moments: {use: mean_distance, of: [x, y], weight: 0.2}
train:
  data: {few: few, pool: {data: many, batch_size: 10, sampler: {use: shuffle}}}
  steps: 8
  batch_size: 6
  precision: float64
  log_every: 1
  updates:
    one: {losses: [known], optimizer: {use: adamw, lr: 1e-2}}
    two: {losses: [near, pulled, moments, known], normalize: joint, optimizer: {use: sgd, lr: 0.1, momentum: 0.9}}
"""


@pytest.fixture
def streams(register: Callable[..., None]) -> Callable[..., Spec]:
    register(Table, Flat, Apart, Pulled)
    return lambda *overrides: load_text(SPEC, overrides=overrides)


def feed_of(spec: Spec, model: Model, seed: int = 0) -> Feed:
    scope = spec.scope("train")
    source, declaration = scope.source, scope.declaration
    assert isinstance(source, Streams)
    assert isinstance(declaration, Training)
    loaders = {
        name: Loader(
            source.of[name], scope.views, requests_of(name, model.requests(), scope.views, source.of[name]),
            sampler=drawn.sampler, batch_size=drawn.size, seed=seed,
        )
        for name, drawn in declaration.drawn().items()
    }  # fmt: skip
    return Feed(loaders)


def trained(spec: Spec, micro_batch_size: int | None, steps: int = 4) -> tuple[dict[str, Tensor], Moves, Model]:
    scope = spec.scope("train")
    assert isinstance(scope.declaration, Training)
    model = Model.create(scope, scope.roots(), seed=3).to("cpu", torch.float64)
    updates = Updates(scope.declaration.model_copy(update={"micro_batch_size": micro_batch_size}), model)
    result = Moves()
    for step, batch in zip(range(steps), feed_of(spec, model).batches(), strict=False):
        result = updates.run(batch, Clock(step, steps))
    return {name: p.detach().clone() for name, p in model.modules.named_parameters()}, result, model


@pytest.mark.parametrize("micro_batch_size", [1, 5])
def test_micro_batches_cut_each_stream_and_change_nothing(streams: Callable[..., Spec], micro_batch_size: int) -> None:
    whole, result, model = trained(streams(), None)
    parts, again, other = trained(streams(), micro_batch_size)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-9, atol=1e-12)
    assert again.numbers() == pytest.approx(result.numbers(), rel=1e-9)
    assert result.rows == {"known": 6, "near": result.rows["near"], "pulled": result.rows["near"], "moments": 6}
    assert 0 < result.rows["near"] < 10, "rows of pool without b are absent"
    weight = whole["encoders.x.weight"]
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(4, dtype=weight.dtype))
    for owner, state in model.memories.items():
        for key, value in state.items():
            torch.testing.assert_close(other.memories[owner][key], value, rtol=1e-6, atol=1e-9)


def test_joint_normalization_counts_the_rows_of_both_streams(streams: Callable[..., Spec]) -> None:
    one = "{all: {losses: [known, pulled], normalize: joint}}"
    _, result, _ = trained(streams(f"train.updates={one}"), 4, steps=1)
    numbers, rows = result.numbers(), result.rows
    total = rows["known"] + rows["pulled"]
    expected = (numbers["loss/known"] * rows["known"] + numbers["loss/pulled"] * rows["pulled"]) / total
    assert numbers["loss"] == pytest.approx(expected, rel=1e-12)


def test_rows_of_unpaired_inputs_are_each_those_that_are_there(streams: Callable[..., Spec]) -> None:
    spec = streams("train.updates={all: {losses: [moments]}}", "train.optimizer={use: sgd, lr: 0}")
    scope = spec.scope("train")
    model = Model.create(scope, scope.roots(), seed=3).to("cpu", torch.float64)
    batch = next(feed_of(spec, model).batches())
    assert isinstance(scope.declaration, Training)
    columns = model.columns(batch)
    linear = model.modules.at("encoders.x")
    assert linear is not None
    a, b = (columns[f"fields.{name}>encoders.x#0"] for name in ("few.a", "pool.b"))
    assert b.present is not None
    with torch.no_grad():
        first, second = linear(a["value"]).mean(0), linear(b["value"][b.present]).mean(0)
    result = Updates(scope.declaration, model).run(batch, Clock(0, 1))
    assert float(result.losses["moments"]) == pytest.approx(float((first - second).square().sum()), rel=1e-12)


def test_the_first_stream_counts_epochs_and_the_others_begin_again(streams: Callable[..., Spec]) -> None:
    spec = streams()
    scope = spec.scope("train")
    model = Model.create(scope, scope.roots(), seed=3)
    feed = feed_of(spec, model)
    seen: list[tuple[list[str], list[str]]] = []
    for number, batch in enumerate(feed.batches()):
        ids = batch.row_ids()
        seen.append((ids["sample.few"], ids["sample.pool"]))
        feed.step_done()
        if number == 6:
            break
    assert feed.state() == {"few": [3, 1], "pool": [2, 1]}
    assert feed.epoch() == 3.5
    assert feed.steps(2.5) == 5
    for epoch in range(3):
        assert sorted(int(i) for few, _ in seen[2 * epoch : 2 * epoch + 2] for i in few) == list(range(12))
    assert sorted(int(i) for _, pool in seen[:3] for i in pool) == list(range(30))
    again = feed_of(spec, model)
    again.restore({"few": [1, 1], "pool": [1, 0]})
    ids = next(again.batches()).row_ids()
    assert (ids["sample.few"], ids["sample.pool"]) == seen[3]


@pytest.mark.parametrize("stop_after", [1, 2, 5, 7])
def test_a_stopped_run_goes_on_with_the_same_bits(
    streams: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path, stop_after: int
) -> None:
    spec = streams("train.micro_batch_size=4")
    whole = context(spec, tmp_path / "whole").run()
    with pytest.raises(StageStopped):
        context(spec, tmp_path / "parts", stop_after=stop_after).run()
    parts = context(spec, tmp_path / "parts").run()
    for file in ("model.safetensors", "memories.safetensors"):
        one, two = (
            load_file(output / "model" / file) for output in (whole, parts) if (output / "model" / file).exists()
        )
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)
    lines = [
        [json.loads(line)["loss"] for line in (output / "history.jsonl").read_text().splitlines()]
        for output in (whole, parts)
    ]
    assert lines[0] == lines[1]


def test_streams_of_one_entry_draw_apart(
    streams: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path
) -> None:
    spec = streams("train.data={few: few, pool: {data: few, batch_size: 6}}", "data.many=null")
    trainer = context(spec, tmp_path)
    from mmflow.train.trainer import Trainer

    made = Trainer(spec.scope("train").declaration, trainer)
    made._load()
    ids = next(made.supply.feed.batches()).row_ids()
    made.close()
    assert ids["sample.few"] != ids["sample.pool"]


def test_keys_know_streams_and_not_the_names_of_entries(streams: Callable[..., Spec]) -> None:
    def key(*overrides: str) -> str:
        return Keys(streams(*overrides)).stage("train")

    renamed = load_text(SPEC.replace("  many:", "  rest:").replace("data: many", "data: rest"))
    assert key() == Keys(renamed).stage("train")
    changes = [
        "train.data.pool.batch_size=9",
        "train.data.pool.sampler={use: sequential}",
        "data.many.seed=2",
        "train.data={pool: {data: many, batch_size: 10, sampler: {use: shuffle}}, few: few}",
    ]
    keys = [key(change) for change in changes]
    assert len({key(), *keys}) == 5


SAMPLED = """
mmflow: 1
data:
  few: {use: streamed_vectors, size: 12}
encoders:
  x: {use: flat, of: few.a}
  y: {use: same, weights: x, of: pool.a}
losses:
  known: {use: cross_entropy, of: x, labels: few.sampler.label, rows: few.sampler.query}
  other: {use: mse, of: [y, y.detach]}
train:
  data:
    few: {data: few, sampler: {use: episodes, way: 2, shot: 1, query: 2, by: label}}
    pool: {use: streamed_vectors, size: 20, seed: 5}
  steps: 3
  batch_size: 6
eval:
  measured: {use: knn, data: {few: few}, test: few, of: x, labels: few.label, k: 1}
"""


def test_a_stream_has_a_sampler_with_fields_and_may_be_written_in_place(
    streams: Callable[..., Spec], tmp_path: Path
) -> None:
    from mmflow.flow.run import RunOptions, run_spec

    spec = load_text(SAMPLED)
    assert str(next(iter(spec.scope("train").targets(Owner("losses", "known")).values()))) == "x"
    outcome = run_spec(spec, RunOptions(store=str(tmp_path / "store"), engine="local"))
    assert outcome.exit_code == 0, outcome.lines
    assert outcome.metrics["measured"][0]["value"] >= 0


def test_a_stage_that_measures_reads_one_entry_under_all_names(streams: Callable[..., Spec]) -> None:
    spec = load_text(SAMPLED.replace("data: {few: few}", "data: {few: few, pool: few}").replace("of: x,", "of: y,"))
    source = spec.scope("measured").source
    assert source is not None
    sample = source.open()[3]
    assert sample["few.label"] == sample["pool.label"] == 0
    assert source.fields()["pool.a"].axes == ("sample",)
    assert spec.scope("train").fields["pool.a"].axes == ("sample.pool",)
    assert spec.scope("train").fields["pool.names"].axes == ("class",)
