"""Norms of convolutional networks, and batch norm that leaves padding out."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def norm_layer(norm: str) -> Callable[[int], nn.Module]:
    return nn.BatchNorm2d if norm == "batch" else group_norm


def group_norm(width: int) -> nn.Module:
    """Group norm of 32 groups, or as many as divide the width."""
    return nn.GroupNorm(max(n for n in range(1, 33) if width % n == 0), width)
