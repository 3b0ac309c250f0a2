"""The gradient that comes back to the sums of a direction, as it enters a tile of scores."""

import torch
from torch import Tensor

from ..tiles.chunked import diagonal, unit_for
from . import Arriving


class Slope:
    """One direction's part in the gradient with respect to a tile: what normalizes it and what arrives for each sum.

    `norm` and `inside` of `arriving` are log-sum-exps, or, shifted, the sums themselves. A log-sum-exp of 1000 does not
    fit into the float32 of a tile: the tile subtracts its rounded value (`base`), and the factor makes up for the rest.
    """

    def __init__(self, dim: int, arriving: Arriving, shift: float | None, dtype: torch.dtype, apart: bool = False):
        self.dim, self.apart = dim, apart
        unit = unit_for(shift)
        g_lse, *linear, g_inside = arriving.grads
        g_lse = torch.zeros_like(arriving.norm) if g_lse is None else g_lse
        self.base = self.inside_base = self.inside_factor = None
        if shift is None:
            self.base, self.factor = normalizer(arriving.norm, dtype, g_lse)
        else:
            self.factor = shifted_factor(arriving.norm, g_lse, shift, dtype)
        if arriving.inside is not None and g_inside is not None:
            if shift is None:
                self.inside_base, self.inside_factor = normalizer(arriving.inside, dtype, g_inside)
            else:
                self.inside_factor = shifted_factor(arriving.inside, g_inside, shift, dtype)
        self.g_target, self.g_total = (None if g is None else (g / unit).to(dtype) for g in linear)

    def of(self, vector: Tensor, at: slice) -> Tensor:
        return vector[at].unsqueeze(self.dim)

    def add_linear(
        self, g: Tensor, at: slice, positive: Tensor | None, excluded: Tensor | None, soft: Tensor | None
    ) -> None:
        """Adds to `g` the parts that are linear in the scores: targets and totals."""
        if self.g_target is not None:
            if soft is not None:
                g.addcmul_(soft, self.of(self.g_target, at).expand_as(soft))
            elif positive is not None:
                g.addcmul_(positive.to(g.dtype), self.of(self.g_target, at).expand_as(g))
        if self.g_total is not None:
            part = self.of(self.g_total, at)
            g.add_(part if excluded is None else part * ~excluded)

    def add_diagonal(self, g: Tensor, at: slice, first: tuple[int, int], length: int) -> None:
        """Adds the target's part for positives on the tile's diagonal from `first`."""
        if self.g_target is not None:
            start = at.start + first[1 - self.dim]
            diagonal(g, first, length).add_(self.g_target[start : start + length])

    def running(
        self, scores: Tensor, at: slice, positive: Tensor | None, excluded: Tensor | None, weight: Tensor | None
    ) -> Tensor:
        """The gradient of the log-sum-exps with respect to a tile of scores, from the scores and the sums alone."""
        assert self.base is not None
        weighted = scores if weight is None else scores + weight.to(scores.dtype).log()
        g = torch.exp(weighted - self.of(self.base, at))
        if excluded is not None:
            g = g.masked_fill(excluded, 0)
        g = g * self.of(self.factor, at)
        if self.inside_base is not None and self.inside_factor is not None and positive is not None:
            p = torch.exp(scores - self.of(self.inside_base, at))
            g = g + p.masked_fill(positive == 0, 0) * self.of(self.inside_factor, at)
        return g


def shifted_factor(total: Tensor, gradient: Tensor, shift: float, dtype: torch.dtype) -> Tensor:
    """The factor that turns a tile of exp(score - shift) into its softmax times `gradient`."""
    return (torch.where(total == 0, 0.0, gradient / total) / unit_for(shift)).to(dtype)


def normalizer(lse: Tensor, dtype: torch.dtype, gradient: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(base, factor) such that the softmax of a tile (times `gradient`) is exp(score - base) * factor."""
    base = torch.where(lse == -torch.inf, torch.inf, lse).to(dtype)
    factor = torch.where(base.isinf(), 0.0, base.to(lse.dtype) - lse).exp()
    return base, (factor if gradient is None else gradient * factor).to(dtype)
