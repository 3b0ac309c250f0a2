"""Norms of convolutional networks."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def norm_layer(norm: str) -> Callable[[int], nn.Module]:
    return nn.BatchNorm2d if norm == "batch" else group_norm


def group_norm(width: int) -> nn.Module:
    """Group norm with 32 groups, or the largest smaller number that divides the width."""
    return nn.GroupNorm(max(n for n in range(1, 33) if width % n == 0), width)
