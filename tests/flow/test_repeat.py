"""Runs with `repeat`: iterations are stored one by one, and a metric decides while the run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mmflow.flow.plan import build_plan
from mmflow.flow.run import RunOptions, RunOutcome, open_store, run_spec, write_report
from mmflow.spec import SpecError, load_text

SPEC = """
mmflow: 1
name: rounds
data:
  train: {use: shapes, split: train, size: 64, pixels: 16}
  test: {use: shapes, split: test, size: 48, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [image, text], temperature: 0.07}
stages:
  base: {use: train, data: train, steps: 2, batch_size: 32}
  round:
    use: repeat
    times: 3
    carry: {model: base}
    stages:
      fit: {use: train, start: carry.model, data: train, steps: 2, batch_size: 32}
      dev: {use: retrieval, data: test, of: [image, text], at: [1, 5]}
    next: {model: fit}
eval:
  after: {use: retrieval, data: test, of: [image, text], at: [1]}
"""
UNTIL = "until: {metric: dev.METRIC, patience: 2, at_most: AT_MOST}"
Run = Callable[..., RunOutcome]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(text: str, *, force: tuple[str, ...] = (), store: str = "store", engine: str = "local") -> RunOutcome:
        options = RunOptions(store=str(tmp_path / store), engine=engine, device="cpu", force=force)  # type: ignore[arg-type]
        return run_spec(load_text(text), options)

    return run


def states(outcome: RunOutcome, state: str) -> list[str]:
    return [name for name, found in outcome.outcome.stages.items() if found == state]


def until(metric: str = "image_to_text_r1", at_most: int = 6) -> str:
    return SPEC.replace("times: 3", UNTIL.replace("METRIC", metric).replace("AT_MOST", str(at_most)))


@pytest.mark.slow
def test_one_more_iteration_runs_that_one_and_its_readers_alone(run: Run) -> None:
    first = run(SPEC)
    assert first.exit_code == 0, first.outcome.notes
    assert states(run(SPEC), "done") == []
    more = run(SPEC.replace("times: 3", "times: 4"))
    assert states(more, "done") == ["round.3.fit", "round.3.dev", "after"]
    fewer = run(SPEC.replace("times: 3", "times: 2"))
    assert states(fewer, "done") == ["after"]


@pytest.mark.slow
def test_iterations_from_the_untrained_model_are_other_models(run: Run, tmp_path: Path) -> None:
    outcome = run(SPEC.replace("start: carry.model", "start: init"))
    store = open_store(str(tmp_path / "store"))
    weights = [
        load_file(store.fetch(outcome.plan[f"round.{i}.fit"].key) / "model" / "model.safetensors") for i in range(2)
    ]
    # Two steps at the same learning rate would leave equal weights equal to a hundredth.
    name = "encoders.image.blocks.0.mlp.0.weight"
    assert (weights[0][name] - weights[1][name]).abs().max() > 0.02


class Child:
    """`mmflow run` in a process of its own."""

    def __init__(self, spec: Path, store: Path) -> None:
        code = "from mmflow.cli import main; main()"
        command = [sys.executable, "-c", code, "run", str(spec), "--store", str(store), "--device", "cpu", "--local"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, text=True
        )

    def until(self, line: str) -> list[str]:
        """Its lines up to `line`."""
        assert self.process.stderr is not None
        seen: list[str] = []
        for written in self.process.stderr:
            seen.append(written.strip())
            if line in written:
                return seen
        raise AssertionError("\n".join(seen))


@pytest.mark.process
def test_killed_in_the_third_iteration_repeats_nothing_of_the_two_before(run: Run, tmp_path: Path) -> None:
    text = SPEC.replace("start: carry.model, data: train, steps: 2", "start: carry.model, data: train, steps: 25")
    (tmp_path / "spec.yaml").write_text(text)
    first = Child(tmp_path / "spec.yaml", tmp_path / "store")
    first.until("round.2.fit: running")
    first.process.kill()
    first.process.wait()
    plan = build_plan(load_text(text), open_store(str(tmp_path / "store")))
    stored = [stage.name for stage in plan if stage.cached]
    assert stored == ["base", "round.0.fit", "round.0.dev", "round.1.fit", "round.1.dev"]
    outcome = run(text)
    assert states(outcome, "cached") == stored
    assert states(outcome, "done") == ["round.2.fit", "round.2.dev", "after"]
    whole = run(text, store="other")
    assert states(whole, "cached") == []
    assert whole.metrics == outcome.metrics


@pytest.mark.slow
def test_a_metric_ends_the_repetition_and_the_rest_is_not_needed(run: Run, tmp_path: Path) -> None:
    # The rank of untrained towers moves up and down: after two iterations without a better one it ends.
    outcome = run(until())
    assert outcome.exit_code == 0, outcome.outcome.notes
    values = []
    for i in range(6):
        found = {metric["name"]: metric["value"] for metric in outcome.metrics.get(f"round.{i}.dev", [])}
        values += [found["image_to_text_r1"]] if found else []
    end = len(values) - 1
    best = values.index(max(values))
    assert end == min(best + 2, 5)
    assert end < 5, "the data of this test lets it end early"
    unneeded = [f"round.{i}.{stage}" for i in range(end + 1, 6) for stage in ("fit", "dev")]
    assert states(outcome, "unneeded") == unneeded
    assert outcome.outcome.stages["after"] == "done"
    # `after` reads the very iteration that ended it.
    last = {metric["name"]: metric["value"] for metric in outcome.metrics[f"round.{end}.dev"]}
    assert all(metric["value"] == last[metric["name"]] for metric in outcome.metrics["after"] if "r1" in metric["name"])
    # Through Prefect as well; nothing is made again.
    again = run(until(), engine="prefect")
    assert states(again, "done") == []
    assert states(again, "unneeded") == unneeded
    # A larger bound asks for nothing new, and changes no key.
    assert states(run(until(at_most=7)), "done") == []
    plan = build_plan(load_text(until()), open_store(str(tmp_path / "store")))
    assert [stage.name for stage in plan if stage.unneeded] == unneeded
    assert plan["after"].cached
    record = open_store(str(tmp_path / "store")).run(outcome.outcome.run_id)
    about = json.loads(record.read("run.json") or b"{}")
    assert about["keys"]["after"] == plan["after"].key
    page = Path(write_report(open_store(str(tmp_path / "store")), outcome.outcome.run_id)).read_text()
    assert f"round ended with iteration {end}" in page


@pytest.mark.slow
def test_forced_iterations_decide_again(run: Run) -> None:
    first = run(until())
    again = run(until(), force=("round.0.dev",))
    assert "round.0.dev" in states(again, "done")
    assert states(again, "unneeded") == states(first, "unneeded")
    assert again.metrics == first.metrics


@pytest.mark.slow
def test_a_metric_that_is_not_measured_is_told_before_the_run(run: Run) -> None:
    with pytest.raises(SpecError, match="measures no `recall`; did you mean mean_recall"):
        run(until("recall"))
