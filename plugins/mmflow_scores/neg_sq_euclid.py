"""Negative squared distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import Score

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class NegativeSquaredEuclidean(Score, name="neg_sq_euclid"):
    """Negative squared distance of pooled vectors: -||a - b||^2 (Snell et al., 2017)."""

    example: ClassVar[str] = "{use: scores, of: [z, centers], score: neg_sq_euclid}"

    def blocks(self, a: Encoding, b: Encoding) -> Tensor:
        x, y = a.pooled, b.pooled
        # The common offset leaves the distances and takes most of the rounding error away.
        offset = x.detach().mean(0)
        x, y = x - offset, y - offset
        return (2 * x @ y.T - x.square().sum(-1, keepdim=True) - y.square().sum(-1)).clamp_max(0)

    def pairs(self, a: Encoding, b: Encoding) -> Tensor:
        return -(a.pooled - b.pooled).square().sum(-1)
