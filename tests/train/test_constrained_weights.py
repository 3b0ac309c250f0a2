"""`constrain` of a stage that begins with another's model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mmflow.spec import Spec

SPEC = """
mmflow: 1
data: {train: {use: digits, split: train}}
encoders:
  image: {use: convnet4, of: image, width: 4, norm: group}
  low: {use: mlp, of: image, dims: [6, 5]}
losses: {one: {use: mse, of: [low, low.detach]}}
stages:
  free: {use: train, data: train, steps: 1, batch_size: 16}
  held: {use: train, data: train, steps: 1, batch_size: 16, encoders: {low: {constrain: orthogonal}}}
"""


def test_a_stage_may_hold_what_an_earlier_one_left_free(
    load: Callable[..., Spec], context: Callable[..., Any], tmp_path: Path
) -> None:
    spec = load(SPEC)
    weights = [load_file(context(spec, tmp_path, s).run() / "model" / "model.safetensors") for s in ("free", "held")]
    # No gradient moves them: the stage's beginning does.
    held = []
    for found in weights:
        matrix = found["encoders.low.linears.0.weight"]
        held.append(torch.allclose(matrix @ matrix.T, torch.eye(len(matrix)), atol=1e-5))
    assert held == [False, True]
