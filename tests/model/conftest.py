"""A small source with groups, absent values and a static field, and encoders simple enough to compute by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from mmflow.data import Batch, scan
from mmflow.model.model import Model
from mmflow.plugin import Encoder, Loss, Source, TensorType
from mmflow.spec import Spec, load_text


class Reader:
    def __init__(self, size: int) -> None:
        draw = np.random.default_rng(0)
        self.a = draw.normal(size=(size, 6)).astype(np.float32)
        self.many = draw.normal(size=(size, 3, 6)).astype(np.float32)
        self.names = draw.normal(size=(4, 6)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.a)

    def id(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        some = None if index % 3 == 1 else self.a[index] + 1
        group = [None if index % 2 and place == 2 else row for place, row in enumerate(self.many[index])]
        return {"id": str(index), "a": self.a[index], "some": some, "many": group, "label": index % 4}

    def static(self) -> Mapping[str, Any]:
        return {"names": list(self.names)}


class Toy(Source, name="toy"):
    """Vectors: `a`, `some` (a third absent), `many` (three a row, the last absent in odd rows), static `names`."""

    size: int = 12

    def fields(self) -> Mapping[str, TensorType]:
        vector = TensorType("vector", size=(6,))
        return {
            "a": vector,
            "some": vector,
            "many": vector.with_(axes=("sample", "view"), groups=(3,)),
            "names": vector.with_(axes=("class",)),
            "label": TensorType("label", dtype="int64"),
            "id": TensorType("id"),
        }

    def open(self) -> Reader:
        return Reader(self.size)


class Affine(Encoder, name="affine"):
    """x W + b."""

    dim: int = 4

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(modality="vector", size=(self.dim,))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> torch.nn.Module:
        return torch.nn.Linear(inputs[0].size[-1] or 0, self.dim)


class Gap(Loss, name="gap"):
    """Mean squared difference."""

    def compute(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().mean(-1)


@pytest.fixture
def spec(register: Callable[..., None]) -> Callable[..., Spec]:
    """A spec over the toy source with the given encoders and losses."""
    register(Toy, Affine, Gap)

    def make(encoders: str, losses: str, *overrides: str) -> Spec:
        text = (
            f"mmflow: 1\nname: toy\ndata: {{train: toy}}\nencoders: {{{encoders}}}\nlosses: {{{losses}}}\n"
            "train: {data: train, steps: 1, batch_size: 12}\n"
        )
        return load_text(text, overrides=overrides)

    return make


@pytest.fixture
def build() -> Callable[[Spec], tuple[Model, Batch]]:
    """The model of a spec's train stage and one batch with all samples."""

    def make(spec: Spec) -> tuple[Model, Batch]:
        scope = spec.scope("train")
        model = Model.create(scope, scope.roots(), seed=0)
        return model, next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=12)))

    return make
