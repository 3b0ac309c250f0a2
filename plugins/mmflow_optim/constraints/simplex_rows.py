"""Rows on the probability simplex."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import Constraint

if TYPE_CHECKING:
    from torch import Tensor


class SimplexRows(Constraint, name="simplex_rows"):
    """Rows (along the last axis) of nonnegative entries that sum to one: the nearest such row (Duchi et al., 2008)."""

    least_axes: ClassVar[int] = 2
    example: ClassVar[str] = "constrain: simplex_rows"

    def project(self, weights: Tensor) -> Tensor:
        import torch

        ordered = weights.sort(dim=-1, descending=True).values
        excess = ordered.cumsum(dim=-1) - 1
        places = torch.arange(1, weights.shape[-1] + 1, device=weights.device, dtype=weights.dtype)
        kept = (ordered * places > excess).sum(dim=-1, keepdim=True)
        shift = excess.gather(-1, kept - 1) / kept
        return (weights - shift).clamp_min(0)
