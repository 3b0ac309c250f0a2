"""Dot product and cosine."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import Score

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class Dot(Score, name="dot"):
    """Dot product of pooled vectors: <a, b>."""

    example: ClassVar[str] = "{use: infonce, of: [image, text], score: dot}"

    def vectors(self, a: Encoding) -> Tensor:
        return a.pooled

    def blocks(self, a: Encoding, b: Encoding) -> Tensor:
        return self.vectors(a) @ self.vectors(b).T

    def pairs(self, a: Encoding, b: Encoding) -> Tensor:
        return (self.vectors(a) * self.vectors(b)).sum(-1)


class Cosine(Dot, name="cosine"):
    """Cosine of pooled vectors: <a, b> / (||a|| ||b||); 0 for a zero vector."""

    example: ClassVar[str] = "{use: infonce, of: [image, text], score: cosine}"

    def vectors(self, a: Encoding) -> Tensor:
        from torch.nn.functional import normalize

        # Lengths are taken in single precision at least: half precision overflows at vectors of length 256.
        return normalize(a.pooled.float() if a.pooled.element_size() < 4 else a.pooled, dim=-1)
