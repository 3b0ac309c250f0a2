"""A training with stages inside is the same however often it is stopped or killed, and however it cuts its batches."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmflow.artifacts import HistoryArtifact, ModelArtifact
from mmflow.flow.plan import build_plan
from mmflow.flow.run import RunOptions, run_spec
from mmflow.flow.stage import run_stage
from mmflow.flow.store import RunStore
from mmflow.plugin.kinds import StageStopped
from mmflow.spec import Spec

from .conftest import spec_of
from .refreshed import ALL, Count, Crash, Fuse, Spread, Told, forget, weights

TEXT = """
losses:
  pull: {use: seen, of: w, labels: em.now.label}
  proto: {use: prototypes, of: w, prototypes: em.km.centers, labels: em.km.label, temperature: em.km.density}
stages:
  fit:
    use: train
    data: train
    epochs: 2
    batch_size: 4
    log_every: 1
    checkpoint_every: 1.0e-9
    optimizer: {use: adam, lr: 0.05}
    sampler: {use: group_batches, by: em.km.label, drop_last: false}
    refresh:
      em:
        every: {epochs: 1}
        carry: {k: 2, code: null}
        stages:
          feats: {use: embed, data: train, of: w, normalize: true}
          km: {use: kmeans, of: feats.w, k: 4}
          now: {use: count, of: feats.w, beside: [carry.code], k: carry.k}
        next: {k: now.following, code: now.label}
      dev:
        every: {steps: 5}
        stages: {score: {use: spread, data: other, of: w}}
      up: {every: {steps: 9}, stages: {scale: {use: scaled, by: 1.5}}}
    keep: {best: dev.score.norm}
"""


@pytest.fixture(autouse=True)
def _components(_groups: None, register: Callable[..., None]) -> None:
    register(*ALL)
    forget()


class Report:
    """A `Reporter` that asks to stop at the `after`-th question."""

    def __init__(self, after: int = 10**9) -> None:
        self.after, self.asked = after, 0

    def progress(self, done: int, total: int, **metrics: float) -> None: ...

    def log(self, step: int, numbers: Mapping[str, float]) -> None: ...

    def table(self, key: str, rows: Any) -> None: ...

    def markdown(self, key: str, text: str) -> None: ...

    def link(self, key: str, url: str, text: str | None = None) -> None: ...

    def note(self, text: str) -> None: ...

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked >= self.after


def attempt(spec: Spec, folder: Path, after: int = 10**9) -> Report:
    """Run the stage `fit`, or go on with it."""
    store = RunStore(str(folder))
    plan, report = build_plan(spec, store), Report(after)
    run_stage(plan["fit"], spec=spec, keys=plan.keys, store=store, report=report, device="cpu", workers=0)
    return report


def result(spec: Spec, folder: Path) -> tuple[Tensor, list[dict[str, float]], list[bytes]]:
    """The weights, all that was measured, and the values of stages inside."""
    store = RunStore(str(folder))
    output = store.fetch(build_plan(spec, store)["fit"].key)
    times = ("seconds", "samples_per_second", "waiting")
    lines = [{k: v for k, v in line.items() if k not in times} for line in HistoryArtifact(output).lines()]
    values = [file.read_bytes() for part in ("columns", "static") for file in sorted((output / part).iterdir())]
    return weights(ModelArtifact(output).weights()), lines, values


def same(a: tuple[Tensor, Any, Any], b: tuple[Tensor, Any, Any]) -> None:
    assert torch.equal(a[0], b[0])
    assert a[1:] == b[1:]


def test_a_stop_at_any_question_changes_nothing(tmp_path: Path) -> None:
    spec = spec_of(TEXT)
    asked = attempt(spec, tmp_path / "whole").asked
    whole = result(spec, tmp_path / "whole")
    assert asked > 25
    stops: list[str] = []
    for after in random.Random(0).choices(range(1, 5), k=200):
        try:
            attempt(spec, tmp_path / "parts", after)
        except StageStopped as stop:
            stops.append(str(stop))
        else:
            break
    assert len(stops) >= 10
    assert all("goes on from there" in stop for stop in stops)
    same(result(spec, tmp_path / "parts"), whole)


@pytest.mark.parametrize("every", ["1.0e-9", "1000"])
def test_an_end_at_any_moment_changes_nothing(tmp_path: Path, every: str) -> None:
    """In a stage inside, in a step, in both: with a checkpoint after each, and without any."""
    spec = spec_of(TEXT, f"stages.fit.checkpoint_every={every}")
    attempt(spec, tmp_path / "whole")
    whole, calls = result(spec, tmp_path / "whole"), len(Count.calls)
    ends = 0
    for left in random.Random(1).choices(range(1, 9), k=60) if every != "1000" else [7, 16, 0]:
        Fuse.left = left
        try:
            attempt(spec, tmp_path / "parts")
        except Crash:
            ends += 1
        else:
            break
    Fuse.left = 0
    if every == "1000":
        attempt(spec, tmp_path / "parts")
    assert ends >= (2 if every == "1000" else 4)
    assert len(Count.calls) > calls
    same(result(spec, tmp_path / "parts"), whole)


def test_stages_of_a_time_that_was_begun_are_not_run_again(tmp_path: Path) -> None:
    spec = spec_of(TEXT.replace("up: {every", "late: {every: {epochs: 1}, from: {epochs: 1}, stages: {feats: {use: "
                                "embed, data: train, of: w}, one: {use: count, of: feats.w}, two: {use: count, of: "
                                "feats.w, beside: [one.label]}}}\n      up: {every"))  # fmt: skip
    attempt(spec, tmp_path / "whole")
    whole = Count.calls.copy()
    forget()
    # The first `count` of the second time of `em`, then those of `late`: the one that was done is not run again.
    for left in (10, 3, 2):
        Fuse.left = left
        with pytest.raises(Crash):
            attempt(spec, tmp_path / "parts")
    Fuse.left = 0
    attempt(spec, tmp_path / "parts")
    assert Count.calls == whole
    same(result(spec, tmp_path / "parts"), result(spec, tmp_path / "whole"))


@pytest.mark.parametrize("updates", ["{}", "{a: {losses: [proto]}, b: {losses: [pull]}}"])
def test_micro_batches_give_the_same_with_values_of_stages_inside(tmp_path: Path, updates: str) -> None:
    found = []
    for micro in (1, 3, 4):
        sets = [f"stages.fit.micro_batch_size={micro}", "stages.fit.precision=float64", "stages.fit.keep=null"]
        sets += ["stages.fit.optimizer={use: sgd, lr: 0.001}", f"stages.fit.updates={updates}"]
        spec = spec_of(TEXT, *sets)
        attempt(spec, tmp_path / str(micro))
        found.append(result(spec, tmp_path / str(micro))[0])
    assert found[0].dtype == torch.float64
    for other in found[1:]:
        assert torch.allclose(found[0], other, rtol=1e-9, atol=1e-12)


def test_workers_change_nothing(tmp_path: Path) -> None:
    text = """
losses: {ce: {use: cross_entropy, of: w, labels: em.km.label}}
stages:
  fit:
    use: train
    data: train
    epochs: 2
    batch_size: 8
    refresh:
      em: {stages: {feats: {use: embed, data: train, of: w}, km: {use: kmeans, of: feats.w, k: 4}}}
"""
    found = []
    for workers in (0, 2):
        outcome = run_spec(spec_of(text, f"stages.fit.workers={workers}", "data.train={use: shapes, size: 24}",
                                   "encoders.w={use: vit, of: image, size: 16, patch: 8, width: 8, depth: 1, heads: 1}",
                                   "encoders.z=null", "encoders.v=null", "data.other=null"),
                           RunOptions(store=str(tmp_path / str(workers)), engine="local"))  # fmt: skip
        assert not outcome.exit_code, outcome.outcome.notes
        output = RunStore(str(tmp_path / str(workers))).fetch(outcome.plan["fit"].key)
        found.append(weights(ModelArtifact(output).weights()))
    assert torch.equal(*found)


KILLED = """
import os, signal, sys
from types import SimpleNamespace
sys.path.insert(0, {root!r})
from mmflow.plugin.hooks import hookimpl
from mmflow.plugin.registry import registry
from tests.stages import conftest, refreshed
from tests.stages.test_refresh_survives import TEXT, attempt, spec_of
from pathlib import Path
made = (conftest.Groups, conftest.Affine, conftest.Gap, *refreshed.ALL)
names = {{f"{{one.kind}}/{{one.use}}": f"{{one.__module__}}:{{one.__qualname__}}" for one in made}}
registry().add("tests", lambda: SimpleNamespace(mmflow_components=hookimpl(lambda: names)), "components-of-tests", "0")
def burn():
    refreshed.Fuse.left -= 1
    if refreshed.Fuse.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
refreshed.Fuse.burn = burn
refreshed.Fuse.left = int(sys.argv[2])
attempt(spec_of(TEXT), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_inside_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    spec = spec_of(TEXT)
    attempt(spec, tmp_path / "whole")
    script = tmp_path / "run.py"
    script.write_text(KILLED.format(root=str(Path(__file__).parents[2])))
    codes = []
    for left in (1, 6, 0):
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path / "parts"), str(left)], env={**os.environ}, check=False
        )
        codes.append(done.returncode)
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    same(result(spec, tmp_path / "parts"), result(spec, tmp_path / "whole"))


__all__ = ["Spread", "Told"]
