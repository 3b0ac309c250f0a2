"""Two updates, a stream each, a queue, an average, a refreshed clustering, constrained weights and gathered pairs, in
one stage: micro-batches change nothing, and neither does a run that ends at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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
from mmflow.plugin import Column, Encoder, Loss, Optimizer, Ref, Source, Stage, StageContext, StageInputs, TensorType
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


class Fuse:
    """Ends the process, as a machine that fails would, at its call number `left` in one of the places."""

    place: ClassVar[str] = ""
    left: ClassVar[int] = 0

    @staticmethod
    def burn(place: str) -> None:
        Fuse.left -= place == Fuse.place
        if place == Fuse.place and Fuse.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Fused(Loss, name="fused_square"):
    """Mean square of a row, with a fuse."""

    place: str

    def compute(self, a: Tensor) -> Tensor:
        Fuse.burn(self.place)
        return a.square().mean(-1)


class FusedColumn(Stage, name="fused_column"):
    """A column as it is, with a fuse."""

    gives = {"value": "Column"}
    of: Ref[Column]

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        return {"value": given.of("of")}

    def run(self, context: StageContext) -> None:
        Fuse.burn("inside")
        column = context.column("of")
        context.write_column("value", column.ids, column.values, column.type)


class Recorded(Optimizer, name="recorded_sgd"):
    """Plain steps; keeps the gradients that it is given."""

    gradients: ClassVar[list[list[Tensor]]] = []

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        def keep(made: torch.optim.Optimizer, *rest: object) -> None:
            found = [p.grad for group in made.param_groups for p in group["params"] if p.grad is not None]
            Recorded.gradients.append([gradient.clone() for gradient in found])

        made = torch.optim.SGD(groups)
        made.register_step_pre_hook(keep)
        return made


class Report:
    """A `Reporter` that nobody reads."""

    def progress(self, done: int, total: int, **metrics: float) -> None: ...
    def log(self, step: int, numbers: Mapping[str, float]) -> None: ...
    def table(self, key: str, rows: Any) -> None: ...
    def markdown(self, key: str, text: str) -> None: ...
    def link(self, key: str, url: str, text: str | None = None) -> None: ...
    def note(self, text: str) -> None: ...

    def should_stop(self) -> bool:
        return False


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
  start: {use: fused_square, of: x, weight: 0.1, place: one}
  size: {use: fused_square, of: x, weight: 0.1, place: two}
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
      one: {losses: [group, start], optimizer: {use: adamw, lr: 1e-2}}
      two: {losses: [align, matching, teach, size], normalize: joint, optimizer: {use: sgd, lr: 0.05, momentum: 0.9}}
    refresh:
      em:
        every: {epochs: 1}
        stages:
          feats: {use: embed, data: {few: few}, of: x, normalize: true}
          same: {use: fused_column, of: feats.x}
          km: {use: kmeans, of: same.value, k: 3}
"""


MADE = (Pairs, Plane, Fused, FusedColumn, Recorded)


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None]) -> None:
    register(*MADE)
    Fuse.place = ""


def attempt(spec: Spec, folder: Path) -> None:
    store = RunStore(str(folder))
    plan = build_plan(spec, store)
    run_stage(plan["fit"], spec=spec, keys=plan.keys, store=store, report=Report(), device="cpu", workers=0)


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


def test_micro_batches_give_equal_gradients(tmp_path: Path) -> None:
    found = []
    plain = [f"stages.fit.updates.{update}.optimizer={{use: recorded_sgd, lr: 0.05}}" for update in ("one", "two")]
    for micro in (1, 5, 30):
        Recorded.gradients.clear()
        spec = load_text(SPEC, overrides=[f"stages.fit.micro_batch_size={micro}", "stages.fit.epochs=2", *plain])
        attempt(spec, tmp_path / str(micro))
        found.append(list(Recorded.gradients))
    # Two updates in each of four steps.
    assert [len(one) for one in found] == [8, 8, 8]
    assert all(float(gradient.abs().max()) > 0 for gradient in found[2][1])
    for other in found[:2]:
        for given, whole in zip(other, found[2], strict=True):
            for one, expected in zip(given, whole, strict=True):
                assert one.dtype == torch.float64
                torch.testing.assert_close(one, expected, rtol=1e-10, atol=1e-13)


KILLED = """
import os, random, sys
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, {root!r})
from mmflow.plugin.hooks import hookimpl
from mmflow.plugin.registry import registry
from tests.train import test_all_words_together as words
names = {{f"{{one.kind}}/{{one.use}}": f"{{one.__module__}}:{{one.__qualname__}}" for one in words.MADE}}
registry().add("tests", lambda: SimpleNamespace(mmflow_components=hookimpl(lambda: names)), "components-of-tests", "0")
chance, places = random.Random(0), ["one", "two", "inside"] * 3 + ["two", ""]
chance.shuffle(places)
places.sort(key=lambda place: not place)
for place in places:
    child = os.fork()
    if not child:
        words.Fuse.place, words.Fuse.left = place, 1 if place == "inside" else chance.randint(1, 2)
        words.attempt(words.load_text(words.SPEC, overrides={overrides!r}), Path(sys.argv[1]))
        os._exit(0)
    chance.random()
    print(place, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_kills_at_ten_moments_change_no_bit(tmp_path: Path) -> None:
    """In a step, between the updates of one, and in stages inside, in a process that nobody warns."""
    overrides = ["stages.fit.micro_batch_size=4", "stages.fit.epochs=11"]
    spec = load_text(SPEC, overrides=overrides)
    attempt(spec, tmp_path / "whole")
    script = tmp_path / "run.py"
    script.write_text(KILLED.format(root=str(Path(__file__).parents[2]), overrides=overrides))
    command = [sys.executable, str(script), str(tmp_path / "parts")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ends = [line.split() for line in done.stdout.splitlines()]
    assert [end[-1] for end in ends] == [str(-signal.SIGKILL)] * 10 + ["0"], (ends, done.stderr[-2000:])
    parts, whole = result(spec, tmp_path / "parts"), result(spec, tmp_path / "whole")
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
