"""Vectors in four groups that lie apart, and specs that run on them in a moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.plugin import Encoder, Loss, Source, TensorType
from mmflow.spec import Spec, load_text


class Reader:
    def __init__(self, size: int, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.group = np.arange(size) % 4
        self.x = (np.eye(4, 6)[self.group] * 5 + draw.normal(size=(size, 6)) * 0.1).astype(np.float32)

    def __len__(self) -> int:
        return len(self.x)

    def id(self, index: int) -> str:
        return f"r{index}"

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        label = None if index % 5 == 4 else int(self.group[index]) % 2
        return {"id": self.id(index), "x": self.x[index], "label": label, "name": f"row {index}"}

    def static(self) -> Mapping[str, Any]:
        return {"names": ["even", "odd"]}


class Groups(Source, name="groups"):
    """Vectors `x` in four groups that lie apart; `label` is whether the group's number is odd, a fifth absent."""

    size: int = 24
    seed: int = 0

    def fields(self) -> Mapping[str, TensorType]:
        return {
            "x": TensorType("vector", size=(6,)),
            "label": TensorType("label", dtype="int64", names=("even", "odd")),
            "name": TensorType("text", dtype="str"),
            "names": TensorType("text", ("class",), dtype="str"),
            "id": TensorType("id", dtype="str"),
        }

    def open(self) -> Reader:
        return Reader(self.size, self.seed)


class Affine(Encoder, name="affine"):
    """x W + b, or x itself where `dim` is 0."""

    dim: int = 4

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(modality="vector", size=(self.dim or inputs[0].size[-1],))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> torch.nn.Module:
        return torch.nn.Linear(inputs[0].size[-1] or 0, self.dim) if self.dim else torch.nn.Identity()


class Gap(Loss, name="gap"):
    """Mean squared difference."""

    def compute(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().mean(-1)


class Ran:
    """The outcome of a run, and where the outputs of its stages are."""

    def __init__(self, outcome: RunOutcome, store: Path) -> None:
        self.outcome, self.store = outcome, store
        self.states = {name: stage["state"] for name, stage in outcome.summary()["stages"].items()}

    def key(self, stage: str) -> str:
        return self.outcome.plan[stage].key

    def folder(self, stage: str) -> Path:
        (attempt,) = [path for path in (self.store / "entries" / self.key(stage)).iterdir() if path.is_dir()]
        return attempt

    def metrics(self, stage: str) -> dict[str, float]:
        return {metric["name"]: metric["value"] for metric in self.outcome.metrics[stage]}


@pytest.fixture(autouse=True)
def _groups(register: Callable[..., None]) -> None:
    register(Groups, Affine, Gap)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ran]:
    """Run a spec over the groups, in a store that lasts for the test."""

    def go(text: str, *overrides: str, fails: bool = False) -> Ran:
        outcome = run_spec(spec_of(text, *overrides), RunOptions(store=str(tmp_path / "store"), engine="local"))
        assert bool(outcome.exit_code) == fails, outcome.outcome.notes
        return Ran(outcome, tmp_path / "store")

    return go


def spec_of(text: str, *overrides: str) -> Spec:
    head = "mmflow: 1\nname: toy\ndata: {train: groups, other: {use: groups, size: 12, seed: 1}}\n"
    head += "encoders:\n  z: {use: affine, of: x, dim: 0}\n  w: {use: affine, of: x}\n  v: {use: affine, of: x}\n"
    return load_text(head + text, "s.yaml", overrides=overrides)


@pytest.fixture
def load() -> Callable[..., Spec]:
    return spec_of
