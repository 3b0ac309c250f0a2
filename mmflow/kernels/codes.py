"""Vectors in few bytes: whole numbers of eight bits, and one bit a number."""

from __future__ import annotations

import torch
from torch import Tensor


def int8_ranges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Start and step [D] of the codes of vectors [N, D]: 255 steps from the smallest to the largest value of each."""
    low, high = x.amin(0), x.amax(0)
    step = (high - low) / 255
    return low, step.where(step > 0, torch.ones_like(step))


def int8_codes(x: Tensor, start: Tensor, step: Tensor) -> Tensor:
    """Codes int8 [N, D]: floor((x - start) / step) - 128; what lies outside of the range gets its end."""
    return (((x - start) / step).floor().clamp(0, 255) - 128).to(torch.int8)


def int8_values(codes: Tensor, start: Tensor, step: Tensor) -> Tensor:
    """The vectors [N, D] that codes stand for."""
    return (codes.to(step.dtype) + 128) * step + start


def binary_codes(x: Tensor) -> Tensor:
    """Which numbers of vectors [N, D] are above 0: uint8 [N, D/8], the first of eight in the highest bit."""
    bits = torch.nn.functional.pad((x > 0).to(torch.uint8), (0, -x.shape[-1] % 8)).unflatten(-1, (-1, 8))
    shifts = torch.arange(7, -1, -1, device=x.device, dtype=torch.uint8)
    return (bits << shifts).sum(-1, dtype=torch.uint8)


def binary_values(codes: Tensor, dim: int) -> Tensor:
    """The bits of codes as numbers 0 and 1, float32 [N, dim]."""
    shifts = torch.arange(7, -1, -1, device=codes.device, dtype=torch.uint8)
    return ((codes.unsqueeze(-1) >> shifts) & 1).flatten(-2)[..., :dim].float()
