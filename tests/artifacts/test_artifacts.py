"""Every artifact gives back what was written; no other room spells the names of its files."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mmflow.artifacts import (
    CheckpointArtifact,
    ColumnArtifact,
    DataArtifact,
    EmbeddingMap,
    EncodingsArtifact,
    FilesArtifact,
    HistoryArtifact,
    Measured,
    MetricsArtifact,
    ModelArtifact,
    StageRecord,
    StaticArtifact,
    StoredItems,
)
from mmflow.plugin import ComponentError, Encoding, ItemScores, TensorType, Tokens

ROOT = Path(__file__).parents[2]


def test_a_model(tmp_path: Path):
    weight = torch.randn(3, 4)
    tied = {"encoders.a.w": weight, "encoders.b.w": weight, "encoders.c.w": weight.T}
    memories = {"memories.queue": {"rows": torch.arange(4), "filled": torch.tensor(2)}, "memories.bank": {"x": weight}}
    states = {"encoders.text": {"words": ["é", "b"]}}
    ModelArtifact(tmp_path).write(tied, memories, states)
    stored = ModelArtifact(tmp_path)
    assert stored.weights().keys() == tied.keys()
    assert all(torch.equal(stored.weights()[name], tensor) for name, tensor in tied.items())
    assert {name: set(state) for name, state in stored.memories().items()} == {
        "memories.queue": {"rows", "filled"}, "memories.bank": {"x"},
    }  # fmt: skip
    assert torch.equal(stored.memories()["memories.queue"]["rows"], torch.arange(4))
    assert stored.states() == states


def test_a_checkpoint_gives_an_optimizer_its_state_back(tmp_path: Path):
    def trained(steps: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for step in range(steps):
            optimizer.zero_grad()
            model(torch.full((2, 3), float(step))).square().sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    trained(3, model, optimizer)
    CheckpointArtifact(tmp_path).write({"a": optimizer.state_dict()["state"], "b": {}}, {"step": 3})
    again = torch.nn.Linear(3, 2)
    again.load_state_dict(model.state_dict())
    fresh = torch.optim.AdamW(again.parameters(), lr=0.1)
    stored = CheckpointArtifact(tmp_path)
    fresh.load_state_dict({**fresh.state_dict(), "state": stored.optimizers()["a"]})
    assert stored.standing() == {"step": 3}
    assert stored.optimizers()["b"] == {}
    trained(2, model, optimizer)
    trained(2, again, fresh)
    assert torch.equal(model.weight, again.weight)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (torch.tensor([[1.0, 2.0], [3.0, 4.0]]), {"a": [1.0, 2.0], "b": [3.0, 4.0]}),
        (torch.tensor([0.5, 1.5], dtype=torch.float16), {"a": 0.5, "b": 1.5}),
        ([1, None], {"a": 1, "b": None}),
        (["one", None], {"a": "one", "b": None}),
    ],
)
def test_a_column(tmp_path: Path, values: object, expected: dict):
    ColumnArtifact(tmp_path, "image.features").write(["a", "b"], values)  # type: ignore[arg-type]
    read = ColumnArtifact.find(tmp_path, "stage", "image.features").read()
    assert {id: v.tolist() if isinstance(v, np.ndarray) else v for id, v in read.items()} == expected
    assert ColumnArtifact.find(tmp_path, "stage", None).read().keys() == expected.keys()


def test_a_column_knows_its_axis_and_type(tmp_path: Path):
    nodes = TensorType("label", ("node",), dtype="int64", names=("a", "b"))
    ColumnArtifact(tmp_path, "of_nodes").write(["0", "1"], [1, 0], type_=nodes)
    ColumnArtifact(tmp_path, "plain").write(["0", "1"], torch.ones(2, 3))
    assert ColumnArtifact(tmp_path, "of_nodes").type() == nodes
    assert ColumnArtifact(tmp_path, "plain").type() == TensorType("vector", size=(3,))
    rows = pickle.loads(pickle.dumps(ColumnArtifact(tmp_path, "plain").rows()))
    assert rows.place("1") == rows.place("1", near=1) == 1
    assert rows.place("2") is None


def test_absent_rows_and_group_axes_of_a_column(tmp_path: Path):
    present = torch.tensor([[True, False], [False, False]])
    ColumnArtifact(tmp_path, "x").write(["a", "b"], torch.ones(2, 2, 3), present)
    read = ColumnArtifact(tmp_path, "x").read()
    assert read["a"].shape == (2, 3)
    assert read["b"] is None


def test_a_column_that_is_not_there_names_those_that_are(tmp_path: Path):
    for name in ("one", "two"):
        ColumnArtifact(tmp_path, name).write(["a"], [1])
    with pytest.raises(ComponentError) as caught:
        ColumnArtifact.find(tmp_path, "cluster", "three")
    assert "the stage cluster has stored no column 'three'" in str(caught.value)
    assert caught.value.expected == "cluster.one, cluster.two"
    with pytest.raises(ComponentError, match="several columns"):
        ColumnArtifact.find(tmp_path, "cluster", None)


def test_metrics(tmp_path: Path):
    assert MetricsArtifact(tmp_path).read() == {}
    assert MetricsArtifact(tmp_path).map() is None
    content: Measured = {"metrics": [{"name": "r1", "value": 0.1}], "figures": {"f": {"values": torch.tensor([1, 2])}}}
    drawn: EmbeddingMap = {
        "points": [[0.0, 1.0]], "ids": ["a"], "group": ["image"], "label": None, "joint": True, "explained": None,
    }  # fmt: skip
    MetricsArtifact(tmp_path).write(content, drawn)
    assert MetricsArtifact(tmp_path).read() == {**content, "figures": {"f": {"values": [1, 2]}}}
    assert MetricsArtifact(tmp_path).map() == drawn
    assert MetricsArtifact(tmp_path).items() == {}
    items = {
        "r1": StoredItems.of(ItemScores([1.0, 0.0, 0.5], [2, 0, 2]), ["a", "b", "c"]),
        "accuracy": StoredItems.of(ItemScores([1.0], ["b"]), ["a", "b", "c"]),
    }
    MetricsArtifact(tmp_path).write(content, drawn, items)
    read = MetricsArtifact(tmp_path).items()
    assert [(name, one.ids, one.scores.tolist()) for name, one in read.items()] == [
        ("r1", ["c", "a", "c"], [1.0, 0.0, 0.5]), ("accuracy", ["b"], [1.0]),
    ]  # fmt: skip
    with pytest.raises(TypeError, match="plain data"):
        MetricsArtifact(tmp_path).write({"figures": {"f": {"kind": object()}}})


def test_a_history_and_a_record(tmp_path: Path):
    assert HistoryArtifact(tmp_path).lines() == []
    assert HistoryArtifact(tmp_path).summary() == StageRecord(tmp_path).read() == {}
    lines = [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 1 / 3}]
    HistoryArtifact(tmp_path).write(lines, {"steps": 2})
    StageRecord(tmp_path).write({"stage": "train"})
    assert HistoryArtifact(tmp_path).lines() == lines
    assert HistoryArtifact(tmp_path).summary() == {"steps": 2}
    assert StageRecord(tmp_path).read() == {"stage": "train"}


@pytest.mark.parametrize("present", [None, torch.tensor([True, False])])
@pytest.mark.parametrize("value", [torch.randn(2, 4), Tokens(torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))])
def test_encodings(tmp_path: Path, value: object, present: torch.Tensor | None):
    EncodingsArtifact(tmp_path).write(Encoding({"tokens": value}, ("sample",), present), ["a", "b"], {"c": "gone"})
    encoding, ids, skipped = EncodingsArtifact(tmp_path).read()
    assert (ids, skipped, encoding.axes, list(encoding.outputs)) == (["a", "b"], {"c": "gone"}, ("sample",), ["tokens"])
    assert type(encoding["tokens"]) is type(value)
    assert all(map(torch.equal, encoding["tokens"], value))  # type: ignore[call-overload]
    if present is None or encoding.present is None:
        assert present is encoding.present
    else:
        assert torch.equal(encoding.present, present)


def test_data_static_and_files(tmp_path: Path):
    types = {
        "text": TensorType("text"), "vector": TensorType("vector", size=(2,)), "image": TensorType("image"),
        "boxes": TensorType("boxes", ("sample", "object")), "names": TensorType("text", ("class",)),
    }  # fmt: skip
    fields = {
        "text": ["x", None],
        "vector": [np.float32([1.0, 2.0]), None],
        "image": [np.arange(12, dtype=np.uint8).reshape(2, 2, 3), np.zeros((1, 1, 3), np.uint8)],
        "boxes": [np.ones((2, 4), np.float32), np.ones((0, 4), np.float32)],
    }
    DataArtifact(tmp_path, "made").write(["a", "b"], fields, types, static={"names": np.array(["cat", "dog"])})
    ids, read = DataArtifact(tmp_path, "made").read()
    assert ids == ["a", "b"]
    assert read["text"] == ["x", None]
    assert read["vector"][1] is None
    for name, row in (("vector", 0), ("image", 0), ("image", 1), ("boxes", 0)):
        assert read[name][row].dtype == fields[name][row].dtype
        assert np.array_equal(read[name][row], fields[name][row])
    assert DataArtifact(tmp_path, "made").types() == types
    assert DataArtifact(tmp_path, "made").static()["names"].read()[0].tolist() == ["cat", "dog"]
    with pytest.raises(ValueError, match="differ"):
        DataArtifact(tmp_path, "made").write(["a"], {"x": [1]}, {})
    centers, type_ = np.eye(3, dtype=np.float32), TensorType("vector", ("cluster",), (3,), names=("a", "b", "c"))
    StaticArtifact(tmp_path, "centers").write(centers, type_)
    read, declared = StaticArtifact(tmp_path, "centers").read()
    assert (read == centers).all()
    assert (read.dtype, declared) == (centers.dtype, type_)
    files = FilesArtifact(tmp_path, "plots")
    assert files.read() == {}
    (files.create() / "a.svg").write_text("<svg/>")
    assert [(name, path.read_text()) for name, path in files.read().items()] == [("a.svg", "<svg/>")]


def test_no_other_room_spells_the_names_of_stored_files():
    names = set()
    for file in (ROOT / "mmflow/artifacts").glob("*.py"):
        names |= set(re.findall(r'"([\w.]+\.(?:json|jsonl|safetensors))"', file.read_text(encoding="utf-8")))
    assert {"model.safetensors", "metrics.json", "train.json", "trainer.json", "stage.json"} <= names
    for file in (ROOT / "mmflow").rglob("*.py"):
        if "artifacts" not in file.parts:
            text = file.read_text(encoding="utf-8")
            assert not [name for name in names if f'"{name}"' in text], file
