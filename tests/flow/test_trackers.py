"""Trackers: told live of curves, metrics, spec and figures; they change nothing, and one that fails is off."""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mmflow.artifacts import HistoryArtifact
from mmflow.flow.plan import build_plan
from mmflow.flow.run import RunOptions, RunOutcome, open_store, run_spec
from mmflow.plugin import Metric, TrackedRun, Tracker, Tracking
from mmflow.redaction import forget
from mmflow.spec import load_text

pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
name: small
data:
  train: {use: shapes, split: train, size: 64, pixels: 16}
  test: {use: shapes, split: test, size: 32, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [image, text], temperature: {use: learned, init: 0.07, min: 0.01}}
train: {data: train, steps: 3, batch_size: 32, log_every: 1}
eval:
  zero_shot: {use: zero_shot, data: test, of: [image, text], labels: label, prompts: ["a {}"]}
"""
KEY = "wandb-key-0123456789abcdef0123456789abcdef"
Lines = list[dict[str, Any]]


def run(folder: Path, track: str, *overrides: str) -> RunOutcome:
    options = RunOptions(store=str(folder / "store"), engine="local", device="cpu")
    return run_spec(load_text(f"{SPEC}track: {track}\n", overrides=overrides), options)


def lines(folder: Path, outcome: RunOutcome) -> Lines:
    file = folder / outcome.outcome.run_id / "log.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunOutcome, Lines]]:
    """A run in all trackers that ship: the folder, the outcome, and the history that is stored."""
    folder = tmp_path_factory.mktemp("tracked")
    quiet = {"TEST_WANDB_KEY": KEY, "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    before = {name: os.environ.get(name) for name in quiet}
    os.environ.update(quiet)
    track = f"""
  log: {{use: jsonl, folder: {folder}/lines}}
  board: {{use: tensorboard, folder: {folder}/board}}
  curves: {{use: wandb, mode: offline, project: shapes, folder: {folder}/wandb, key: $env.TEST_WANDB_KEY}}
  server: {{use: mlflow, uri: "sqlite:///{folder}/mlflow.db", artifacts: "{folder}/artifacts"}}"""
    outcome = run(folder, track)
    assert outcome.outcome.notes == []
    history = HistoryArtifact(open_store(str(folder / "store")).fetch(outcome.plan["train"].key)).lines()
    yield folder, outcome, history
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    forget()


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of a file of wandb: 7 bytes, then LevelDB's log (blocks of 32 KiB; crc, length, type)."""
    at, record = 7, b""
    while at + 7 <= len(data):
        left = -at % 32768
        if 0 < left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        # Whole, or the last part.
        if kind in (1, 4):
            yield record
            record = b""


def first_value(outcome: RunOutcome) -> float:
    return outcome.metrics["zero_shot"][0]["value"]


def test_lines_of_json_hold_curves_metrics_spec_and_figures(tracked: tuple[Path, RunOutcome, Lines]) -> None:
    folder, outcome, history = tracked
    found = lines(folder / "lines", outcome)
    assert [line["event"] for line in found[:4]] == ["begin", "log", "log", "log"]
    assert [line["numbers"] for line in found if line["event"] == "log"] == history
    assert {"loss/align", "value/losses.align.temperature"} <= set(history[0])
    (metrics,) = (line for line in found if line["event"] == "metrics")
    assert metrics["metrics"] == outcome.metrics["zero_shot"]
    assert found[-1]["event"] == "end"
    assert found[-1]["status"] == "completed"
    place = folder / "lines" / outcome.outcome.run_id
    assert load_text((place / "spec.yaml").read_text()).stages.keys() == {"train", "zero_shot"}
    figures = [line for line in found if line["event"] == "figure"]
    assert figures
    assert all("<svg" in (place / figure["file"]).read_text() for figure in figures)


def test_tensorboard_reads_what_was_written(tracked: tuple[Path, RunOutcome, Lines]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, outcome, history = tracked
    board = EventAccumulator(str(folder / "board" / outcome.outcome.run_id))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("train/loss/align")] == [
        (line["step"], pytest.approx(line["loss/align"], rel=1e-6)) for line in history
    ]
    tags = board.Tags()
    assert any(tag.startswith("zero_shot/") for tag in tags["scalars"])
    assert {"spec/text_summary", "report/text_summary", "status/text_summary"} <= set(tags["tensors"])
    assert any(tag.startswith("zero_shot/") for tag in tags["tensors"])


def test_wandb_has_the_run_offline_and_not_the_key(tracked: tuple[Path, RunOutcome, Lines]) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    folder, outcome, history = tracked
    (file,) = (folder / "wandb").rglob("*.wandb")
    records = [Record.FromString(data) for data in wandb_records(file.read_bytes())]
    rows = [{i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in r.history.item} for r in records]
    assert [row["train/loss/align"] for row in rows if "train/loss/align" in row] == [
        line["loss/align"] for line in history
    ]
    assert [row["train/step"] for row in rows if "train/step" in row] == [1, 2, 3]
    summary = {i.key or ".".join(i.nested_key): i.value_json for r in records for i in r.summary.update}
    assert any(json.loads(value) == first_value(outcome) for value in summary.values())
    config = {item.key: item.value_json for record in records for item in record.run.config.update}
    assert json.loads(config["stages.train.batch_size"]) == 32
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in files].count("spec.yaml") >= 2
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_mlflow_has_the_run_in_its_database(tracked: tuple[Path, RunOutcome, Lines]) -> None:
    from mlflow import MlflowClient

    folder, outcome, history = tracked
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["stages.train.batch_size"] == "32"
    assert found.data.tags["mmflow.run"] == outcome.outcome.run_id
    curve = client.get_metric_history(found.info.run_id, "train/loss/align")
    assert [(m.step, m.value) for m in curve] == [(line["step"], line["loss/align"]) for line in history]
    assert first_value(outcome) in found.data.metrics.values()
    assert [artifact.path for artifact in client.list_artifacts(found.info.run_id)] == ["figures", "spec.yaml"]


def test_a_stored_stage_is_told_again_to_the_tracker_of_a_new_run(tracked: tuple[Path, RunOutcome, Lines]) -> None:
    folder, first, history = tracked
    second = run(folder, f"[{{use: jsonl, folder: {folder}/again}}]")
    assert set(second.outcome.stages.values()) == {"cached"}
    found = lines(folder / "again", second)
    assert [line["numbers"] for line in found if line["event"] == "log"] == history
    assert [line["metrics"] for line in found if line["event"] == "metrics"] == [first.metrics["zero_shot"]]


class Failing(Tracker, name="failing"):
    """Fails at the first metric."""

    def begin(self, run: TrackedRun) -> Tracking:
        return _Failing()


class _Failing(Tracking):
    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        raise ConnectionError("no room on the tracker")


LIVE: dict[str, Any] = {}


class Held(Tracker, name="held"):
    """Keeps what it is told in this process."""

    folder: str = "x"

    def begin(self, run: TrackedRun) -> Tracking:
        LIVE["run"], LIVE["thread"] = run, threading.current_thread()
        return _Held()


class _Held(Tracking):
    def measured(self, stage: str, metrics: Sequence[Metric]) -> None:
        LIVE.setdefault("measured", []).append(stage)

    def end(self, status: str) -> None:
        LIVE["end"] = status


def test_one_that_fails_is_told_once_and_harms_nobody(tmp_path: Path, register: Callable[..., None]) -> None:
    register(Failing)
    outcome = run(tmp_path, f"{{bad: failing, good: {{use: jsonl, folder: {tmp_path}/lines}}}}")
    assert outcome.exit_code == 0
    (note,) = outcome.outcome.notes
    assert note.startswith("the tracker bad has failed and is off: no room on the tracker (ConnectionError")
    assert lines(tmp_path / "lines", outcome)[-1]["status"] == "completed"


def test_trackers_are_in_no_key_and_see_no_secret(
    tmp_path: Path, register: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(Held)
    monkeypatch.setenv("TEST_PLACE", "/a/secret/place-4711")
    plain, watched = load_text(SPEC), load_text(f"{SPEC}track: [{{use: held, folder: $env.TEST_PLACE}}]\n")
    assert [s.key for s in build_plan(plain)] == [s.key for s in build_plan(watched)]
    assert load_text(watched.to_yaml()) == watched
    outcome = run(tmp_path, "[{use: held, folder: $env.TEST_PLACE}]", "data.train.size=32", "train.steps=1")
    assert outcome.exit_code == 0
    assert (LIVE["measured"], LIVE["end"]) == (["zero_shot"], "completed")
    assert LIVE["thread"] is not threading.current_thread()
    assert "4711" not in LIVE["run"].spec
    assert LIVE["run"].settings["data.train.size"] == 32
