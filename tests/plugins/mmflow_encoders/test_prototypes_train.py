"""Prototypes as a part of a spec: a loss trains them, and they stay where they must after every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mmflow.data import scan
from mmflow.model.model import Model
from mmflow.plugin import Clock, Encoder, Loss
from mmflow.spec import load_text
from mmflow.train.optimization import Optimization
from mmflow.train.step import Step

SPEC = """
mmflow: 1
name: prototypes
data: {train: {use: shapes, split: train, size: 8, pixels: 16}}
encoders: {image: {use: vit, of: fields.image, size: 16, patch: 4, width: 16, depth: 1}}
parts: {protos: {use: encoder/prototype_vectors, count: 5, dim: 16, constrain: CONSTRAIN}}
losses: {near: {use: nearest_prototype, of: image, prototypes: parts.protos}}
train: {data: train, steps: 3, batch_size: 8, optimizer: {use: adamw, lr: 0.1}}
"""


class Nearest(Loss, name="nearest_prototype"):
    """Cross-entropy of each row with its nearest prototype."""

    prototypes: Encoder

    def compute(self, x: Tensor, prototypes: Any) -> Tensor:
        scores = x @ prototypes().T
        return torch.nn.functional.cross_entropy(scores, scores.argmax(1), reduction="none")


@pytest.mark.parametrize("constrain", ["[]", "unit_rows", "simplex_rows"])
def test_prototypes_train_and_keep_their_constraint(constrain: str, register: Callable[..., None]) -> None:
    register(Nearest)
    spec = load_text(SPEC.replace("CONSTRAIN", constrain))
    scope = spec.scope("train")
    model = Model.create(scope, scope.roots(), seed=0)
    optimization = Optimization(spec.stages["train"], model)
    batch = next(iter(scan(spec.data["train"], scope.views, model.requests(), batch_size=8)))
    vectors = dict(model.modules.named_parameters())["parts.protos.vectors"]
    for number in range(3):
        before = vectors.detach().clone()
        optimization.optimizer.zero_grad()
        Step(model, micro_batch_size=4).run(batch, Clock(number, 3))
        optimization.begin(Clock(number, 3))
        optimization.optimizer.step()
        model.constraints.project()
        assert (vectors - before).abs().max() > 1e-3
        if constrain == "unit_rows":
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
        elif constrain == "simplex_rows":
            assert (vectors >= 0).all()
            torch.testing.assert_close(vectors.sum(1), torch.ones(5))
        else:
            assert not torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-2)
