"""Columns and static outputs of stages as fields, labels, weights, constants and numbers of a training."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from mmflow.artifacts import ColumnArtifact, ModelArtifact, StaticArtifact
from mmflow.plugin import (
    Bank,
    Encoding,
    EvaluationResult,
    Evaluator,
    Labels,
    Loss,
    Memory,
    Metric,
    Ref,
    Stage,
    StageContext,
    StageInputs,
    TensorType,
    Value,
    Weight,
    default,
)

Run = Callable[..., Any]

CLUSTERS = """
stages:
  feats: {use: embed, data: train, of: z, model: init}
  km: {use: kmeans, of: feats.z, k: 4}
"""


class Seen(Loss, name="seen"):
    """Keeps what it was given."""

    labels: Ref[Labels] | None = None
    given: Ref[Weight] | None = None
    bank: Ref[Bank] | None = None
    margin: Value = default(1.0, per_row=True)

    def compute(self, a: Tensor, labels: Any, given: Any, bank: Encoding | None, margin: Any, ids: list[str]) -> Tensor:
        if not isinstance(a, FakeTensor):
            CALLS.append({"ids": ids, "labels": labels, "given": given, "bank": bank, "margin": margin})
        return a.square().mean(-1)


CALLS: list[dict[str, Any]] = []


class Half(Stage, name="half"):
    """A number, a truth and a text for every other row of the groups."""

    gives = {"margin": "Column", "first": "Column", "said": "Column", "scale": "Static"}

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        number = TensorType("number")
        return {
            "margin": number,
            "first": TensorType("mask", dtype="bool"),
            "said": TensorType("text", dtype="str"),
            "scale": number.with_(axes=()),
        }

    def run(self, context: StageContext) -> None:
        ids = [f"r{i}" for i in range(0, 24, 2)]
        context.write_column("margin", ids, [i / 10 for i in range(0, 24, 2)])
        context.write_column("first", ids, [i < 12 for i in range(0, 24, 2)])
        context.write_column("said", ids, [f"row {i}" for i in range(0, 24, 2)])
        context.write_static("scale", np.float32(0.25))


class Rows(Evaluator, name="rows_seen"):
    """How many rows have a label, and the mean of its vectors."""

    labels: Ref[Labels]

    def evaluate(self, *of: Encoding, labels: Tensor) -> EvaluationResult:
        found = [Metric("labeled", int((labels >= 0).sum())), Metric("rows", len(labels))]
        return EvaluationResult(found + [Metric(f"mean_{n}", float(e.pooled.mean())) for n, e in enumerate(of)])


class Bag(Memory, name="bag"):
    """Keeps the rows that it began with."""

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        return {name: torch.zeros(0, *column.size) for name, column in columns.items()}  # type: ignore[arg-type]

    def begun(self, state: Mapping[str, Tensor], content: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(content)

    def update(self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding] | None:
        return {name: Encoding({"pooled": rows}, ("entry",)) for name, rows in state.items()}


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None]) -> None:
    CALLS.clear()
    register(Seen, Half, Rows, Bag)


def fit(losses: str, more: str = "") -> str:
    train = f"  fit: {{use: train, data: train, steps: 2, batch_size: 8{more}}}\n"
    return f"losses: {{{losses}}}\n{CLUSTERS}{train}"


def by_id(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for call in CALLS:
        values = call[name].tolist() if isinstance(call[name], Tensor) else call[name]
        found |= dict(zip(call["ids"], values, strict=True))
    return found


@pytest.mark.parametrize("written", ["km.label", "km", "stages.km.label", "group"])
def test_a_column_joins_the_data_by_id_as_labels(run: Run, written: str) -> None:
    fields = ", fields: {group: km.label}" if written == "group" else ""
    ran = run(fit(f"l: {{use: seen, of: w, labels: {written}}}", fields))
    labels = ColumnArtifact(ran.folder("km"), "label").read()
    seen = by_id("labels")
    assert len(seen) == 16
    assert seen == {id: labels[id] for id in seen}


def test_rows_that_a_column_has_not_are_absent(run: Run) -> None:
    """Half of the rows have a number: the loss that needs it sees these alone, at the numbers of these rows."""
    run(
        "losses: {l: {use: seen, of: w, margin: half.margin}}\nstages:\n  half: half\n"
        "  fit: {use: train, data: train, steps: 3, batch_size: 8}\n"
    )
    assert by_id("margin") == pytest.approx({f"r{i}": i / 10 for i in range(0, 24, 2)})


def test_a_field_and_a_constant_are_numbers_too(run: Run) -> None:
    losses = "l: {use: seen, of: w, margin: fields.m}, k: {use: seen, of: w, margin: km.density}"
    ran = run(fit(losses, ", fields: {m: half.margin}"), "stages.half=half")
    density = torch.tensor(StaticArtifact(ran.folder("km"), "density").read()[0])
    of_clusters = [call for call in CALLS if call["margin"].tolist() == density.tolist()]
    assert len(of_clusters) == 2
    CALLS[:] = [call for call in CALLS if call not in of_clusters]
    assert by_id("margin") == pytest.approx({id: int(id[1:]) / 10 for id in by_id("margin")})


def test_a_static_output_is_a_bank_and_a_single_value_a_number(run: Run) -> None:
    ran = run(fit("l: {use: seen, of: w, bank: km.centers, margin: half.scale}"), "stages.half=half")
    centers, _ = StaticArtifact(ran.folder("km"), "centers").read()
    for call in CALLS:
        assert torch.equal(call["bank"].pooled, torch.tensor(centers))
        assert call["margin"].tolist() == [0.25]


@pytest.mark.parametrize("micro", [1, 5, 8])
def test_micro_batches_change_no_gradient(run: Run, micro: int) -> None:
    losses = "l: {use: seen, of: w, margin: half.margin}, s: {use: gap, of: [w, f]}"
    encoders = "encoders: {f: {use: affine, of: feats.z}}"
    weights = []
    for size in (8, micro):
        text = fit(losses, f", precision: float64, micro_batch_size: {size}, {encoders}")
        weights.append(ModelArtifact(run(text, "stages.half=half").folder("fit")).weights())
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=1e-12), name


def test_a_column_of_vectors_and_one_of_texts_are_inputs_of_encoders(run: Run) -> None:
    encoders = "{f: {use: affine, of: feats.z, dim: 2}, t: {use: text_transformer, of: half.said, width: 8, depth: 1, "
    encoders += "heads: 2, length: 8, head: {use: linear, dim: 2}}}"
    text = fit("l: {use: gap, of: [f, t]}", f", encoders: {encoders}")
    ran = run(text, "stages.half=half")
    states = ModelArtifact(ran.folder("fit")).states()
    assert {"row", "22"} <= set(states["encoders.t"]["ids"])


def test_a_sampler_reads_a_column(run: Run) -> None:
    run(
        fit("l: {use: seen, of: w}", ", sampler: {use: subset, keep: half.first, drop_last: false}"), "stages.half=half"
    )
    assert {id for call in CALLS for id in call["ids"]} == {f"r{i}" for i in range(0, 12, 2)}


@pytest.mark.parametrize(
    ("one", "stage"),
    [
        ("{data: train, sampler: {use: subset, keep: half.first, drop_last: false}}", "shuffle"),
        ("train", "{use: subset, keep: half.first, drop_last: false}"),
    ],
)
def test_a_sampler_of_a_stream_reads_a_column(run: Run, one: str, stage: str) -> None:
    run(
        "losses: {l: {use: seen, of: q}}\nstages:\n  half: half\n"
        f"  fit: {{use: train, epochs: 1, batch_size: 8, sampler: {stage}, "
        f"encoders: {{q: {{use: affine, of: one.x}}}}, "
        f"data: {{one: {one}, two: {{data: other, sampler: shuffle}}}}}}\n"
    )
    assert {id for call in CALLS for id in call["ids"]} == {f"r{i}" for i in range(0, 12, 2)}


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_join_as_the_process_itself_does(run: Run, workers: int) -> None:
    run(fit("l: {use: seen, of: w, labels: km.label, given: half.margin}", f", workers: {workers}"), "stages.half=half")
    assert by_id("labels")
    assert sorted(by_id("given")) == sorted(f"r{i}" for i in range(0, 24, 2) if f"r{i}" in by_id("given"))


def test_an_evaluation_reads_columns_everywhere(run: Run) -> None:
    ran = run(
        CLUSTERS + "eval:\n  own: {use: rows_seen, data: train, of: [z, feats.z], labels: km.label, model: init}\n"
        "  joined: {use: rows_seen, data: other, of: z, labels: g, fields: {g: km.label}, model: init}\n"
        "  probe: {use: knn, data: train, of: feats.z, labels: km.label, model: init, k: 3}\n"
    )
    own = ran.metrics("own")
    assert own["labeled"] == own["rows"] == 24
    assert own["mean_0"] == pytest.approx(own["mean_1"], rel=1e-6)
    assert ran.metrics("joined")["labeled"] == 12


def test_a_memory_begins_with_values_of_a_stage(run: Run) -> None:
    memories = "memories: {bag: {use: bag, of: z, initial: km.centers}, "
    memories += "queue: {use: queue, size: 4, of: z, initial: {value: km.centers}}}\n"
    ran = run(memories + fit("l: {use: seen, of: w, bank: bag}, q: {use: seen, of: w, bank: queue}"))
    centers, _ = StaticArtifact(ran.folder("km"), "centers").read()
    assert all(torch.equal(call["bank"].pooled, torch.tensor(centers)) for call in CALLS[:2])


def test_what_a_stage_reads_of_others_is_in_its_key(run: Run, load: Callable[..., Any]) -> None:
    from mmflow.identity.keys import Keys

    text = fit("l: {use: seen, of: w, labels: g}", ", fields: {g: km.label}")
    text += "eval: {e: {use: rows_seen, data: train, of: z, labels: label, model: init}}\n"
    changed = {"base": load(text), "k": load(text, "stages.km.k=3")}
    keys = {of: {name: Keys(spec).stage(name) for name in spec.stages} for of, spec in changed.items()}
    assert keys["base"]["feats"] == keys["k"]["feats"]
    assert keys["base"]["e"] == keys["k"]["e"]
    assert keys["base"]["km"] != keys["k"]["km"]
    assert keys["base"]["fit"] != keys["k"]["fit"]
    assert Keys(load(re.sub(r"\bkm\b", "clusters", text))).stage("fit") == keys["base"]["fit"]
