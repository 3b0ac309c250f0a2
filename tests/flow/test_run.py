"""Whole runs: what is stored is not run again, observers cannot harm, reports can be written later."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import torch

from mmflow.flow.run import RunOptions, RunOutcome, open_store, run_spec, write_report
from mmflow.flow.store import StoreError
from mmflow.plugin import ComponentError, hookimpl
from mmflow.plugin.registry import registry
from mmflow.spec import load_text

pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
name: small
data:
  train: {use: shapes, split: train, size: 96, pixels: 16}
  test: {use: shapes, split: test, size: 32, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [image, text], temperature: 0.07}
train: {data: train, epochs: 1, batch_size: 32, optimizer: {use: adamw, lr: 1e-3}, log_every: 1}
eval:
  retrieval: {use: retrieval, data: test, of: [image, text], at: [1, 5]}
  zero_shot: {use: zero_shot, data: test, of: [image, text], labels: label, prompts: ["a {}"]}
"""
STAGES = ("train", "retrieval", "zero_shot")
Run = Callable[..., RunOutcome]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*overrides: str, force: tuple[str, ...] = ()) -> RunOutcome:
        options = RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu", force=force)
        return run_spec(load_text(SPEC, overrides=overrides), options)

    return run


def ran(outcome: RunOutcome) -> set[str]:
    assert outcome.exit_code == 0, outcome.outcome.notes
    assert set(outcome.outcome.stages.values()) <= {"done", "cached"}
    return {name for name, state in outcome.outcome.stages.items() if state == "done"}


def test_only_what_changed_runs_again(run: Run):
    assert ran(run()) == set(STAGES)
    assert ran(run()) == set()
    assert ran(run("eval.retrieval.at=[1, 2]")) == {"retrieval"}
    assert ran(run("train.workers=0", "train.log_every=2", "name=other")) == set()
    assert ran(run("losses.align.temperature=0.1")) == set(STAGES)
    assert ran(run()) == set()


def test_a_forced_stage_runs_with_all_that_reads_it(run: Run):
    run()
    assert ran(run(force=("zero_shot",))) == {"zero_shot"}
    assert ran(run(force=("train",))) == set(STAGES)
    with pytest.raises(ComponentError, match="--force tarin: no such stage"):
        run(force=("tarin",))


def test_a_run_repeated_from_nothing_gives_the_same_bits(run: Run, tmp_path: Path):
    first = run()
    key = first.plan["train"].key
    store = open_store(str(tmp_path / "store"))
    weights = (store.fetch(key) / "model" / "model.safetensors").read_bytes()
    metrics = first.metrics
    torch.manual_seed(99)
    second = run(force=("train",))
    assert (store.fetch(key) / "model" / "model.safetensors").read_bytes() == weights
    assert second.metrics == metrics


def test_a_store_that_is_not_local_holds_whole_runs():
    options = RunOptions(store=f"memory://{uuid4()}", engine="local", device="cpu")
    first = run_spec(load_text(SPEC), options)
    assert ran(first) == set(STAGES)
    second = run_spec(load_text(SPEC), options)
    assert ran(second) == set()
    assert second.metrics == first.metrics


def test_a_damaged_result_is_made_again(run: Run, tmp_path: Path):
    first = run()
    store = open_store(str(tmp_path / "store"))
    (store.fetch(first.plan["retrieval"].key) / "metrics.json").write_text("{}")
    assert ran(run()) == {"retrieval"}


def test_a_report_is_written_with_the_run_and_again_from_its_record(run: Run, tmp_path: Path):
    outcome = run()
    page = Path(str(outcome.report))
    assert "retrieval" in page.read_text(encoding="utf-8")
    page.unlink()
    store = open_store(str(tmp_path / "store"))
    assert write_report(store) == str(page)
    assert page.exists()
    with pytest.raises(StoreError, match="no run other is recorded"):
        write_report(store, "other")


def test_each_stage_tells_where_and_when_it_was_made(run: Run, tmp_path: Path):
    outcome = run()
    store = open_store(str(tmp_path / "store"))
    about = json.loads((store.fetch(outcome.plan["train"].key) / "stage.json").read_text())
    assert about["stage"] == about["use"] == "train"
    assert about["key"] == outcome.plan["train"].key
    assert about["environment"]["device"] == "cpu"
    assert torch.__version__.startswith(about["environment"]["versions"]["torch"])


class Recorder:
    """A plugin that writes down what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.steps: list[int] = []

    @hookimpl
    def mmflow_stage_started(self, stage: str) -> None:
        self.heard.append(("started", stage))

    @hookimpl
    def mmflow_step_done(self, stage: str, step: int, metrics: dict[str, float]) -> None:
        if stage == "train":
            assert metrics["loss"] > 0
            self.steps.append(step)

    @hookimpl
    def mmflow_stage_finished(self, stage: str, key: str, result: dict) -> None:
        self.heard.append(("finished", stage))
        assert bool(result["metrics"]) == (stage != "train")


class Clumsy:
    """A plugin that fails whenever it is called."""

    def __init__(self) -> None:
        self.called = 0

    @hookimpl
    def mmflow_step_done(self, step: int) -> None:
        self.called += 1
        raise RuntimeError("no room on the tracker")


@pytest.fixture
def observers() -> Iterator[tuple[Recorder, Clumsy]]:
    recorder, clumsy = Recorder(), Clumsy()
    plugins = registry().plugins
    plugins.register(recorder, name="recorder")
    plugins.register(clumsy, name="clumsy")
    yield recorder, clumsy
    plugins.unregister(recorder)
    plugins.unregister(clumsy)


def test_observers_see_the_run_and_one_that_fails_is_reported_once(run: Run, observers: tuple[Recorder, Clumsy]):
    recorder, clumsy = observers
    outcome = run()
    assert outcome.exit_code == 0
    assert recorder.heard == [(what, stage) for stage in STAGES for what in ("started", "finished")]
    assert recorder.steps == [1, 2, 3]
    assert clumsy.called == 1
    told = [note for note in outcome.outcome.notes if "clumsy" in note]
    assert len(told) == 1
    assert "no room on the tracker" in told[0]
    # A stage that is read from the store does not begin.
    recorder.heard.clear()
    run()
    assert recorder.heard == []
