"""Subsets of the tokens of a sequence: chosen, taken out and put back in their places."""

from __future__ import annotations

import torch
from torch import Tensor


def random_subset(rows: int, length: int, count: int, device: torch.device) -> Tensor:
    """`count` of `length` places for each row, in ascending order: int64 [rows, count]."""
    return torch.rand(rows, length, device=device).argsort(dim=1)[:, :count].sort(dim=1).values


def visible_subset(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The visible places of each row in ascending order, hidden ones behind them, and which of them are visible.

    `hidden` is bool [N, L]; the results are [N, K] with K the largest number of visible places of a row (L where the
    values of `hidden` are not known, as in shape checks).
    """
    counts = (~hidden).sum(dim=1)
    order = hidden.to(torch.uint8).argsort(dim=1, stable=True)
    try:
        most = max(1, int(counts.max()))
    except RuntimeError:
        most = hidden.shape[1]
    return order[:, :most], torch.arange(most, device=hidden.device) < counts[:, None]


def take(x: Tensor, index: Tensor) -> Tensor:
    """The tokens at `index` [N, K] of `x` [N, L, D]: [N, K, D]."""
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


def put_back(x: Tensor, index: Tensor, real: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Tokens [N, K, D] at their places `index` in [N, length, D], zeros elsewhere, and where they are, [N, length]."""
    places = x.new_zeros(len(x), length, x.shape[2])
    mask = torch.zeros(len(x), length, dtype=torch.bool, device=x.device)
    values = x * real[:, :, None]
    return places.scatter(1, index[:, :, None].expand_as(x), values), mask.scatter(1, index, real)
