"""A score of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import Encoding, Score

if TYPE_CHECKING:
    from torch import Tensor


class CLASS(Score, name="NAME"):
    """Minus the Manhattan distance of two vectors: s(a, b) = -sum_d |a_d - b_d|.

    Say here what the score is, with the paper; larger means more alike.
    """

    needs: ClassVar[tuple[str, ...]] = ("pooled",)
    example: ClassVar[str] = "{use: infonce, of: [image, text], score: NAME}"

    def blocks(self, a: Encoding, b: Encoding) -> Tensor:
        """All pairs [N, M] of the rows of `a` [N, D] and `b` [M, D]."""
        import torch

        return -torch.cdist(a.pooled, b.pooled, p=1)

    def pairs(self, a: Encoding, b: Encoding) -> Tensor:
        """The pairs of equal place [N]."""
        return -(a.pooled - b.pooled).abs().sum(-1)
