"""Two updates, a stream each, a queue, an average, a refreshed clustering, constrained weights and gathered pairs, in
one stage: micro-batches change nothing, and neither does a run that ends at any moment."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from mmflow.artifacts import ModelArtifact
from mmflow.flow.plan import build_plan
from mmflow.flow.stage import run_stage
from mmflow.flow.store import RunStore
from mmflow.plugin import Encoder, Loss, Source, StageStopped, TensorType
from mmflow.spec import Spec, load_text

pytestmark = pytest.mark.slow


class Reader:
    def __init__(self, size: int, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.a = draw.normal(size=(size, 5)).astype(np.float32)
        self.b = (self.a + 0.1 * draw.normal(size=(size, 5))).astype(np.float32)

    def __len__(self) -> int:
        return len(self.a)

    def id(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {"a": self.a[index], "b": None if index % 5 == 2 else self.b[index], "label": index % 3}

    def static(self) -> Mapping[str, Any]:
        return {}


class Pairs(Source, name="vector_pairs"):
    """Pairs of vectors `a`, `b` (a fifth without `b`), and a label."""

    size: int = 12
    seed: int = 0

    def fields(self) -> Mapping[str, TensorType]:
        label = TensorType("label", dtype="int64", names=("x", "y", "z"))
        return {**dict.fromkeys(("a", "b"), TensorType("vector", size=(5,))), "label": label}

    def open(self) -> Reader:
        return Reader(self.size, self.seed)


class Plane(Encoder, name="plane"):
    """x W + b."""

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(modality="vector", size=(5,))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> torch.nn.Module:
        return torch.nn.Linear(5, 5)


class Ended(Exception):
    """A run that ends in the middle of a step."""


class Fused(Loss, name="fused_square"):
    """Mean square of a row; it ends the run at its call number `left`."""

    left: ClassVar[list[int]] = [0]

    def compute(self, a: Tensor) -> Tensor:
        Fused.left[0] -= 1
        if Fused.left[0] == 0:
            raise Ended
        return a.square().mean(-1)


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


SPEC = """
mmflow: 1
data:
  few: {use: vector_pairs, size: 12}
  many: {use: vector_pairs, size: 30, seed: 1}
encoders:
  x: {use: plane, of: few.a, constrain: unit_rows}
  y: {use: same, weights: x, of: pool.a}
  z: {use: plane, of: pool.b}
  slow: {use: ema, weights: x, of: pool.a, momentum: 0.9}
  mined: {use: hard_pairs, of: [y, z], temperature: 0.5, exclude: pool.label}
  joined: {use: product, of: [y, z], rows: [mined.y, mined.z]}
  match: {use: linear, of: joined, dim: 2}
memories: {queue: {use: queue, size: 40, of: slow, ready: any}}
losses:
  group: {use: supcon, of: x, labels: few.group}
  size: {use: fused_square, of: x, weight: 0.1}
  align: {use: infonce, of: [y, z], negatives: queue, temperature: {use: adaptive, of: [y, z], base: 0.4}}
  matching: {use: cross_entropy, of: match, labels: mined.match, weight: 0.3}
  teach: {use: mse, of: [y, slow]}
stages:
  fit:
    use: train
    data:
      few: {data: few, fields: {group: em.km.label}}
      pool: {data: many, batch_size: 10}
    epochs: 3
    batch_size: 6
    precision: float64
    log_every: 1
    checkpoint_every: 1.0e-9
    groups: {all: {match: "*"}, late: {match: encoders.match, active: {from: {steps: 2}}}}
    updates:
      one: {losses: [group], optimizer: {use: adamw, lr: 1e-2}}
      two: {losses: [align, matching, teach, size], normalize: joint, optimizer: {use: sgd, lr: 0.05, momentum: 0.9}}
    refresh:
      em:
        every: {epochs: 1}
        stages:
          feats: {use: embed, data: {few: few}, of: x, normalize: true}
          km: {use: kmeans, of: feats.x, k: 3}
"""


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None]) -> None:
    register(Pairs, Plane, Fused)
    Fused.left[0] = 0


def attempt(spec: Spec, folder: Path, after: int = 10**9) -> Report:
    store = RunStore(str(folder))
    plan, report = build_plan(spec, store), Report(after)
    run_stage(plan["fit"], spec=spec, keys=plan.keys, store=store, report=report, device="cpu", workers=0)
    return report


def result(spec: Spec, folder: Path) -> dict[str, Tensor]:
    store = RunStore(str(folder))
    artifact = ModelArtifact(store.fetch(build_plan(spec, store)["fit"].key))
    memories = {f"{name}/{key}": v for name, state in artifact.memories().items() for key, v in state.items()}
    return {**artifact.weights(), **memories}


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    found = []
    for micro in (1, 5, 30):
        spec = load_text(SPEC, overrides=[f"stages.fit.micro_batch_size={micro}", "stages.fit.epochs=2"])
        attempt(spec, tmp_path / str(micro))
        found.append(result(spec, tmp_path / str(micro)))
    assert {name.split(".")[1] for name in found[0] if name.startswith("encoders.")} == {"x", "z", "slow", "match"}
    for other in found[:2]:
        assert other.keys() == found[2].keys()
        for name, value in found[2].items():
            torch.testing.assert_close(other[name], value, rtol=1e-7, atol=1e-9)


def test_ends_at_ten_moments_change_no_bit(tmp_path: Path) -> None:
    """Between steps, in stages inside, and between the updates of a step, which `size` of the second one ends."""
    spec = load_text(SPEC, overrides=["stages.fit.micro_batch_size=4", "stages.fit.epochs=6"])
    attempt(spec, tmp_path / "whole")
    whole = result(spec, tmp_path / "whole")
    chance, ends = random.Random(0), {"stopped": 0, "ended": 0}
    while sum(ends.values()) < 10:
        killed = chance.random() < 0.5
        Fused.left[0] = chance.randint(1, 2) if killed else 0
        try:
            attempt(spec, tmp_path / "parts", 10**9 if killed else chance.randint(1, 2))
        except StageStopped:
            ends["stopped"] += 1
        except Ended:
            ends["ended"] += 1
    Fused.left[0] = 0
    attempt(spec, tmp_path / "parts")
    assert min(ends.values()) >= 3, ends
    parts = result(spec, tmp_path / "parts")
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
