"""Sequences with a mask: conversion, joining, standardization, pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmflow.plugin import Tokens


def as_tokens(sequence: Tensor | Tokens) -> Tokens:
    """Tokens [N, L, D] of tokens, a plain sequence [N, L, D], a grid [N, H, W, D] or one vector [N, D] a row."""
    if isinstance(sequence, Tokens):
        return sequence
    return all_real(sequence.unsqueeze(1) if sequence.ndim == 2 else sequence.flatten(1, -2))


def steps_of(series: Tensor | Tokens) -> Tokens:
    """Tokens [N, T, C] of a series [N, T, C] or, with one channel, [N, T]."""
    values, mask = series if isinstance(series, Tokens) else (series, None)
    values = values if values.ndim == 3 else values.unsqueeze(-1)
    return all_real(values) if mask is None else Tokens(values, mask)


def all_real(x: Tensor) -> Tokens:
    """Tokens without padding."""
    return Tokens(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))


def join(sequences: Sequence[Tokens]) -> Tokens:
    """Sequences of one width, one after the other."""
    if len(sequences) == 1:
        return sequences[0]
    return Tokens(torch.cat([s.values for s in sequences], dim=1), torch.cat([s.mask for s in sequences], dim=1))


def standardized(x: Tensor, mask: Tensor) -> Tensor:
    """Rows of `x` [N, T, C] with mean 0 and standard deviation 1 over the steps in `mask` [N, T]; 0 elsewhere."""
    real = mask.unsqueeze(-1).to(x.dtype)
    count = (real.sum(1, keepdim=True) * x.shape[-1]).clamp_min(1)
    centered = (x - (x * real).sum((1, 2), keepdim=True) / count) * real
    return centered * ((centered**2).sum((1, 2), keepdim=True) / count + 1e-6).rsqrt()


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens: [N, L, D] and bool [N, L] -> [N, D]; zero for rows without tokens."""
    weight = mask.unsqueeze(-1).to(x.dtype)
    return (x * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """Maximum over the real tokens: [N, L, D] and bool [N, L] -> [N, D]; zero for rows without tokens."""
    largest = x.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(1)
    return torch.where(mask.any(1, keepdim=True), largest, 0.0)
