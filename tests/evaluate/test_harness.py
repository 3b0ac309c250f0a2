"""Evaluators and `embed` run as stages of real specs, on a real store."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mmflow.evaluate.rows import Wanted
from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.flow.store import RunStore
from mmflow.model.model import Model
from mmflow.plugin import (
    Data,
    Encoding,
    EvaluationResult,
    Evaluator,
    Labels,
    Metric,
    RawField,
    Ref,
    Refs,
    Score,
    default,
    hookimpl,
)
from mmflow.plugin.registry import registry
from mmflow.plugin.targets import Target
from mmflow.spec import SpecError, load_spec

SEEN: dict[str, Any] = {}


class Look(Evaluator, name="look_of_tests"):
    """Keeps what it was given."""

    labels: Ref[Labels] | None = None
    columns: Refs[RawField] = ()
    test: Ref[Data] | None = None
    score: Score = default("cosine")
    factor: float = 2.0
    value: float | None = 1.0

    def evaluate(
        self, first: Encoding, *others: Encoding, labels: Any, columns: Any, test: Any, score: Any, factor: float,
        ids: Any, data: Any,
    ) -> EvaluationResult:  # fmt: skip
        SEEN.update(first=first, others=others, labels=labels, columns=columns, test=test, score=score)
        SEEN.update(factor=factor, ids=ids, data=data)
        if self.value == -1:
            return None  # type: ignore[return-value]
        value = float("nan") if self.value is None else np.float32(self.value)
        return EvaluationResult([Metric("value", value)], figures={"counts": {"kind": "bars", "values": np.arange(3)}})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _look() -> Iterator[None]:
    torch.set_num_threads(1)
    module = ModuleType("evaluators_of_tests")
    module.Look = Look  # type: ignore[attr-defined]
    module.mmflow_components = hookimpl(lambda: {"stage/look_of_tests": "evaluators_of_tests:Look"})  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    registry.cache_clear()
    registry().add("tests", lambda: module, "evaluators-of-tests", "0")
    SEEN.clear()
    yield
    registry.cache_clear()
    del sys.modules[module.__name__]


ROWS = [
    {"id": "a", "words": "red circle", "kind": "one", "group": 3, "length": 1.5},
    {"id": "b", "words": "blue circle", "kind": "two", "group": None, "length": None},
    {"id": "c", "words": None, "kind": None, "group": 4, "length": 2.5},
    {"id": "d", "words": "blue square", "kind": "one", "group": 5, "length": 0.5},
]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, rows: Any = ROWS) -> Path:
        text = text.replace("url: ", f"url: {tmp_path}/")
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        return path

    return write


def run(path: Path, *overrides: str) -> tuple[RunOutcome, RunStore]:
    store = str(path.parent / "store")
    outcome = run_spec(load_spec(str(path), overrides), RunOptions(store=store, engine="local", device="cpu"))
    return outcome, RunStore(store)


def stored(outcome: RunOutcome, store: RunStore, stage: str) -> Path:
    assert outcome.exit_code == 0, outcome.outcome.notes
    return store.fetch(outcome.plan[stage].key)


TABLE = """
mmflow: 1
name: words
data:
  rows: {use: table, url: rows.jsonl, columns: {kind: {modality: label}, words: words, length: length}}
  other: {use: table, url: other.jsonl, columns: {kind: {modality: label}, words: words, length: length}}
encoders:
  text: {use: text_transformer, of: words, width: 16, heads: 2, depth: 1}
"""


def test_arguments_are_what_their_fields_lead_to(write):
    path = write(
        TABLE
        + "eval:\n  look:\n    use: look_of_tests\n    data: rows\n    of: [text]\n    labels: kind\n"
        + "    columns: [words, length]\n    test: other\n"
    )
    outcome, store = run(path)
    stored(outcome, store, "look")
    assert SEEN["ids"] == SEEN["data"].ids
    rows = {id: place for place, id in enumerate(SEEN["ids"])}
    assert len(rows) == 4
    first: Encoding = SEEN["first"]
    assert first.pooled.shape == (4, 16)
    assert first.present is not None
    assert first.present.tolist() == [True, True, False, True]
    names = load_spec(str(path)).data["rows"].fields()["kind"].names
    assert [names[i] if i >= 0 else None for i in SEEN["labels"].tolist()] == ["one", "two", None, "one"]
    words, length = SEEN["columns"]
    assert words == ["red circle", "blue circle", None, "blue square"]
    assert length.isnan().tolist() == [False, True, False, False]
    assert SEEN["factor"] == 2.0
    assert SEEN["score"].use == "cosine"
    test = SEEN["test"]
    assert len(test) == 2
    assert torch.equal(test.of[0].pooled, first.pooled[:2])
    assert test.fields["columns"][0] == ["red circle", "blue circle"]
    assert SEEN["others"] == ()


def test_a_second_entry_that_lacks_a_field_is_told_by_name(write, tmp_path):
    path = write(TABLE + "eval:\n  look: {use: look_of_tests, data: rows, of: [text], labels: kind, test: other}\n")
    (tmp_path / "other.jsonl").write_text('{"id": "a", "words": "red"}\n')
    path.write_text(
        path.read_text().replace(
            "other.jsonl, columns: {kind: {modality: label}, words: words, length: length}", "other.jsonl"
        )
    )
    with pytest.raises(SpecError, match="data 'other' has no field 'kind'"):
        run(path)


def test_a_metric_that_is_not_finite_is_refused(write):
    outcome, store = run(write(TABLE + "eval:\n  look: {use: look_of_tests, data: rows, of: [text], value: null}\n"))
    assert outcome.exit_code == 1
    assert "metric 'value' is nan" in " ".join(outcome.outcome.notes)
    assert not store.has(outcome.plan["look"].key)


def test_what_an_evaluator_returns_is_stored_as_plain_data(write):
    path = write(TABLE + "eval:\n  look: {use: look_of_tests, data: rows, of: [text], value: 0.5}\n")
    outcome, store = run(path)
    content = json.loads((stored(outcome, store, "look") / "metrics.json").read_text())
    assert content["metrics"][0]["value"] == 0.5
    assert content["figures"]["counts"]["values"] == [0, 1, 2]
    # The figure has no labels: it costs only itself.
    assert outcome.report is not None
    assert "This figure cannot be drawn: KeyError" in Path(outcome.report).read_text()
    with pytest.raises(SpecError, match="returned NoneType"):
        run(path, "eval.look.value=-1")


DIGITS = """
mmflow: 1
name: digits
data: {test: {use: digits, split: test, pixels: 8}}
encoders:
  image: {use: vit, of: image, size: 8, patch: 4, width: 16, heads: 2, depth: 1, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, heads: 2, depth: 1, head: {use: linear, dim: 8}}
eval:
  retrieval: {use: retrieval, data: test, of: [image, text], match: label, examples: 2}
  geometry: {use: geometry, data: test, of: [text, image]}
stages:
  feats: {use: embed, data: test, of: [image, text.features], normalize: true}
"""


def test_encodings_are_computed_once_for_all_stages_and_runs(tmp_path, monkeypatch):
    path = tmp_path / "spec.yaml"
    path.write_text(DIGITS)
    asked: list[tuple[str, ...]] = []
    encode = Model.encode

    def counted(self: Model, encoders: Any, batch: Any, outputs: Any = ("pooled",)) -> Any:
        names = tuple(encoders)
        asked.append((*names, *outputs))
        return encode(self, names, batch, outputs)

    monkeypatch.setattr(Model, "encode", counted)
    outcome, store = run(path)
    metrics = json.loads((stored(outcome, store, "retrieval") / "metrics.json").read_text())
    batches = -(-metrics["rows"] // 256)
    # `features` is another output than `pooled`; the image and the pooled text are shared by all stages.
    pooled = [entry for entry in asked if entry[-1] == "pooled"]
    assert sum("image" in entry for entry in pooled) == batches
    assert sum("text" in entry for entry in pooled) == batches
    asked.clear()
    outcome, store = run(path, "eval.retrieval.at=[2]", "eval.geometry.t=3")
    assert outcome.outcome.stages == {"feats": "cached", "retrieval": "done", "geometry": "done"}
    assert asked == []


def test_an_untrained_model_is_near_chance_and_the_outputs_are_complete(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(DIGITS)
    outcome, store = run(path)
    folder = stored(outcome, store, "retrieval")
    content = json.loads((folder / "metrics.json").read_text())
    metrics = {m["name"]: m for m in content["metrics"]}
    r1 = metrics["image_to_text_r1"]
    assert r1["chance"] == pytest.approx(0.1, abs=0.02)
    assert abs(r1["value"] - r1["chance"]) < 0.12
    assert content["data"] == "test"
    assert {e["field"] for e in content["examples"]} == {"image", "caption"}
    drawn = json.loads((folder / "map.json").read_text())
    assert set(drawn["group"]) == {"image", "text"}
    assert len(drawn["points"]) == len(drawn["ids"]) == len(drawn["label"]) == 2 * content["rows"]
    assert set(drawn["label"]) <= {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}


def test_embed_stores_vectors_by_id(tmp_path):
    import pyarrow.parquet as parquet

    path = tmp_path / "spec.yaml"
    path.write_text(DIGITS)
    outcome, store = run(path)
    columns = stored(outcome, store, "feats") / "columns"
    assert sorted(p.name for p in columns.iterdir()) == ["image.parquet", "text_features.parquet"]
    image = parquet.read_table(columns / "image.parquet").to_pydict()
    vectors = torch.tensor(image["value"])
    assert vectors.shape[1] == 8
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-5)
    assert len(set(image["id"])) == len(image["id"])
    features = parquet.read_table(columns / "text_features.parquet").to_pydict()
    assert len(features["value"][0]) == 16


def test_token_scores_work_end_to_end(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(
        DIGITS.split("eval:")[0].replace("head: {use: linear, dim: 8}", "tokens: {use: linear, dim: 8}")
        + "parts: {late: {use: score/maxsim}}\n"
        + "eval:\n"
        + "  retrieval: {use: retrieval, data: test, of: [image, text], score: parts.late, match: label, at: [1]}\n"
        + "  zero_shot: {use: zero_shot, data: test, of: [image, text], score: maxsim, labels: label}\n"
    )
    outcome, store = run(path)
    metrics = json.loads((stored(outcome, store, "retrieval") / "metrics.json").read_text())["metrics"]
    assert metrics[0]["chance"] == pytest.approx(0.1, abs=0.02)
    zero = json.loads((stored(outcome, store, "zero_shot") / "metrics.json").read_text())["metrics"]
    assert zero[0]["chance"] == pytest.approx(0.1)


def test_encodings_and_fields_are_joined_by_id(write, monkeypatch):
    path = write(
        TABLE
        + "eval:\n  look: {use: look_of_tests, data: rows, of: [text]}\n"
        + "  again: {use: look_of_tests, data: rows, of: [text], columns: [words], factor: 3}\n"
    )
    # A fingerprint that lies: the order of the file changes between two runs and the source does not say so.
    source = type(load_spec(str(path)).data["rows"])
    monkeypatch.setattr(source, "fingerprint", lambda self: "the same")
    outcome, store = run(path)
    stored(outcome, store, "again")
    before = dict(zip(SEEN["ids"], SEEN["first"].pooled.tolist(), strict=True))
    (path.parent / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(ROWS)))
    outcome, store = run(path, "eval.again.factor=4")
    assert outcome.outcome.stages == {"look": "cached", "again": "done"}
    assert dict(zip(SEEN["ids"], SEEN["first"].pooled.tolist(), strict=True)) == before
    words = {row["id"]: row["words"] for row in ROWS}
    assert SEEN["columns"][0] == [words[id] for id in SEEN["ids"]]


@pytest.mark.parametrize("order", [("text", "both"), ("both", "text")])
def test_what_is_skipped_does_not_depend_on_what_is_in_the_store(write, tmp_path, order):
    from PIL import Image

    for name in "abd":
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    path = write(
        TABLE.replace("length: length}", "image: file}, bad: skip")
        + "  image: {use: vit, of: image, size: 8, patch: 4, width: 16, heads: 2, depth: 1}\neval:\n"
        + "".join(f"  {name}: {{use: look_of_tests, data: rows, of: {of}, labels: kind}}\n" for name, of in (
            (name, {"text": "[text]", "both": "[image, text]"}[name]) for name in order
        )),
        [{**row, "words": row["words"] or "nothing", "file": f"{row['id']}.png"} for row in ROWS],
    )  # fmt: skip
    outcome, store = run(path)
    both = json.loads((stored(outcome, store, "both") / "metrics.json").read_text())
    text = json.loads((stored(outcome, store, "text") / "metrics.json").read_text())
    assert (both["rows"], text["rows"]) == (3, 4)
    assert {name: list(samples) for name, samples in both["skipped"].items()} == {"rows": ["c"]}
    assert text["skipped"] == {}


def test_a_member_is_picked_from_the_first_group_axis():
    plain = Encoding({"pooled": torch.zeros(3, 2)})
    with pytest.raises(ValueError, match="no group axis"):
        Wanted(Target("encoders", "image", index=1), {"pooled": "pooled"}).of(plain)
    grouped = Encoding({"pooled": torch.arange(12.0).reshape(3, 2, 2)}, ("sample", "copy"), torch.ones(3, 2).bool())
    picked = Wanted(Target("encoders", "image", index=1), {"pooled": "pooled"}).of(grouped)
    assert picked.axes == ("sample",)
    assert picked.pooled.tolist() == [[2.0, 3.0], [6.0, 7.0], [10.0, 11.0]]
