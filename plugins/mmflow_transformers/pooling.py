"""Vectors of sequences of states."""

from __future__ import annotations

import torch
from torch import Tensor


def pooled(states: Tensor, real: Tensor, pool: str) -> Tensor:
    """States [N, L, D] -> [N, D]: the `last` real one, or the `mean` of the real ones; `real` is their mask [N, L]."""
    if pool == "last":
        return states[torch.arange(len(states), device=states.device), real.sum(1).sub(1).clamp_min(0)]
    weight = real.to(states.dtype).unsqueeze(-1)
    return (states * weight).sum(1) / weight.sum(1).clamp_min(1)
