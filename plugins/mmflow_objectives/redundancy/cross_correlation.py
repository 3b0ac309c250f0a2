"""The cross-correlation of two views, driven to the identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmflow.plugin import Loss, Pooled, Refs

if TYPE_CHECKING:
    from torch import Tensor


class CrossCorrelation(Loss, name="cross_correlation"):
    """sum_k (1 - c_kk)^2 + off_diagonal sum_{k != l} c_kl^2, c the correlation of dimension k of one view with l of
    the other over the batch (Barlow Twins; Zbontar et al., 2021). A scalar.

    With `standardize: false` the vectors are taken as they are, standardized already by a batch norm without gain.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector", "logits")}
    example: ClassVar[str] = "{use: cross_correlation, of: [two.0, two.1], off_diagonal: 0.005}"

    of: Refs[Pooled] = Field((), max_length=2)
    off_diagonal: float = Field(0.005, ge=0, le=1e6, description="weight of the correlations of different dimensions")
    standardize: bool = Field(True, description="whether each dimension is centered and scaled over the batch")

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        if self.standardize:
            a, b = (self._standard(v.float() if v.element_size() < 4 else v) for v in (a, b))
        correlation = a.T @ b / len(a)
        own = correlation.diagonal()
        return (1 - own).square().sum() + self.off_diagonal * (correlation.square().sum() - own.square().sum())

    def _standard(self, vectors: Tensor) -> Tensor:
        centered = vectors - vectors.mean(0)
        return centered * (centered.square().mean(0) + 1e-5).rsqrt()
