"""A modality that a plugin brings (clouds of points): read, joined, encoded, trained on, measured and shown."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mmflow.data import ColumnRequest, scan
from mmflow.flow.run import RunOptions, run_spec
from mmflow.flow.store import RunStore
from mmflow.plugin import TensorType, Tokens
from mmflow.plugin.registry import registry
from mmflow.plugin.targets import Target
from mmflow.spec import SpecError, load_spec

pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
name: clouds
data:
  train: {use: point_clouds, size: 256}
  test: {use: point_clouds, size: 96, seed: 1}
encoders:
  cloud: {use: deep_set, of: cloud, head: {use: linear, dim: 16}}
  text: {use: text_transformer, of: caption, width: 16, heads: 2, depth: 1, head: {use: linear, dim: 16}}
losses:
  align: {use: infonce, of: [cloud, text], temperature: 0.1}
train: {data: train, epochs: 15, batch_size: 64, optimizer: {use: adamw, lr: 1e-2}}
eval:
  retrieval: {use: retrieval, data: test, of: [cloud, text], match: caption, at: [1], examples: 4}
  probe: {use: linear_probe, data: train, test: test, of: cloud, labels: kind}
"""


@pytest.fixture(autouse=True)
def _plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "plugins"))
    torch.set_num_threads(1)
    registry.cache_clear()
    registry().add("points", lambda: importlib.import_module("point_clouds"), "point-clouds", "0")
    assert not registry().broken
    yield
    registry.cache_clear()


def written(folder: Path, text: str) -> str:
    (folder / "spec.yaml").write_text(text)
    return str(folder / "spec.yaml")


@pytest.mark.parametrize("workers", [0, 2])
def test_it_trains_and_is_shown(tmp_path: Path, workers: int):
    spec = load_spec(written(tmp_path, SPEC))
    store = str(tmp_path / "store")
    outcome = run_spec(spec, RunOptions(store=store, engine="local", device="cpu", workers=workers))
    assert outcome.exit_code == 0, outcome.outcome.notes
    measured = json.loads((RunStore(store).fetch(outcome.plan["retrieval"].key) / "metrics.json").read_text())
    recall = {metric["name"]: metric["value"] for metric in measured["metrics"]}["cloud_to_text_r1"]
    assert recall > 0.9
    assert outcome.report is not None
    page = Path(outcome.report).read_text()
    examples = page[page.index('id="examples"') : page.index('id="stages"')]
    clouds = re.findall(r'<span title="cloud-1-\d+"><svg[^>]*>(.*?)</svg></span>', examples)
    assert clouds
    assert all(20 <= cloud.count("<circle") < 60 for cloud in clouds)
    assert "points like a stick" in examples


def test_rows_are_padded_and_an_empty_cloud_is_absent():
    source = registry().get("source", "point_clouds").model_validate({"size": 16})
    request = ColumnRequest("cloud", Target("fields", "cloud"))
    (batch,) = scan(source, {}, [request], batch_size=16)  # type: ignore[arg-type]
    column = batch.columns["cloud"]
    assert isinstance(column.values, Tokens)
    clouds = [source.open()[row]["cloud"] for row in range(16)]  # type: ignore[attr-defined]
    assert column.values.mask.sum(1).tolist() == [len(cloud) for cloud in clouds]
    assert column.values.values.shape == (16, max(map(len, clouds)), 3)
    assert np.array_equal(column.values.values[3, : len(clouds[3])].numpy(), clouds[3])
    assert column.present is not None
    assert column.present.tolist() == [True] * 15 + [False]


def test_a_column_of_a_table_holds_it(tmp_path: Path):
    clouds = [np.arange(3 * count, dtype=np.float32).reshape(count, 3) for count in (2, 1, 3)]
    rows = [{"id": str(n), "cloud": cloud.tolist()} for n, cloud in enumerate(clouds)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = registry().get("source", "table")
    declared = {"url": str(tmp_path / "rows.jsonl"), "columns": {"cloud": {"modality": "points"}}}
    source = table.model_validate(declared)
    assert source.fields()["cloud"] == TensorType("points", size=(None, 3))  # type: ignore[attr-defined]
    (batch,) = scan(source, {}, [ColumnRequest("cloud", Target("fields", "cloud"))], batch_size=3)  # type: ignore[arg-type]
    column = batch.columns["cloud"]
    assert isinstance(column.values, Tokens)
    assert column.values.mask.sum(1).tolist() == [2, 1, 3]
    assert np.array_equal(column.values.values[2].numpy(), clouds[2])
    declared["columns"] = {"cloud": {"modality": "point"}}
    with pytest.raises(ValidationError, match="unknown modality 'point'"):
        table.model_validate(declared)


def test_an_unknown_modality_is_told_with_the_nearest(tmp_path: Path):
    text = SPEC.replace("size: 256}", "size: 256, modality: point}")
    with pytest.raises(SpecError) as caught:
        load_spec(written(tmp_path, text))
    message = str(caught.value)
    assert "`cloud` is declared as 'point', which is no modality" in message
    assert "did you mean 'points'?" in message


def test_an_encoder_of_another_modality_is_refused(tmp_path: Path):
    text = SPEC.replace("use: deep_set", "use: vit, width: 16, heads: 2")
    with pytest.raises(SpecError, match=r"vit cannot read `cloud`[\s\S]*points"):
        load_spec(written(tmp_path, text))
