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
    """Vectors [count, dim]; `constrain` puts them back where they must stay, after each step."""

    def __init__(self, count: int, dim: int, *, start: str, constraint: str) -> None:
        super().__init__()
        self.constraint = constraint
        drawn = torch.rand(count, dim) if start == "uniform" else torch.randn(count, dim)
        self.vectors = nn.Parameter(F.normalize(drawn, dim=-1) if start == "unit" else drawn)
        self.constrain()

    def forward(self) -> Tensor:
        return self.vectors

    @torch.no_grad()
    def constrain(self) -> None:
        if self.constraint == "unit_rows":
            self.vectors.copy_(F.normalize(self.vectors, dim=-1))
        elif self.constraint == "simplex":
            self.vectors.copy_(on_simplex(self.vectors))


def on_simplex(x: Tensor) -> Tensor:
    """The nearest rows with nonnegative entries of sum one (Duchi et al., 2008)."""
    ordered = x.sort(dim=-1, descending=True).values
    excess = ordered.cumsum(dim=-1) - 1
    places = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    kept = (ordered * places > excess).sum(dim=-1, keepdim=True)
    shift = excess.gather(-1, kept - 1) / kept
    return (x - shift).clamp_min(0)
