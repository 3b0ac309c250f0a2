"""The modules of `lookup` and `prototype_vectors`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LookupTable(nn.Module):
    """Rows of a table by number; zeros for numbers below zero."""

    def __init__(self, count: int, width: int, *, std: float) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(count, width).normal_(std=std))

    def forward(self, label: Tensor) -> Tensor:
        known = label >= 0
        return self.table[label.clamp_min(0)] * known.unsqueeze(-1)


class Prototypes(nn.Module):
    """Vectors [count, dim]."""

    def __init__(self, count: int, dim: int, *, start: str) -> None:
        super().__init__()
        drawn = torch.rand(count, dim) if start == "uniform" else torch.randn(count, dim)
        self.vectors = nn.Parameter(F.normalize(drawn, dim=-1) if start == "unit" else drawn)

    def forward(self) -> Tensor:
        return self.vectors
