"""Sequences with a mask: conversion, joining, pooling."""

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


def join(sequences: Sequence[Tokens]) -> Tokens:
    """Sequences of one width, one after the other."""
    if len(sequences) == 1:
        return sequences[0]
    return Tokens(torch.cat([s.values for s in sequences], dim=1), torch.cat([s.mask for s in sequences], dim=1))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens: [N, L, D] and bool [N, L] -> [N, D]; zero for rows without tokens."""
    weight = mask.unsqueeze(-1).to(x.dtype)
    return (x * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)


def all_real(x: Tensor) -> Tokens:
    return Tokens(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))
