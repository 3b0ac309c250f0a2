"""Uniformity of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, Loss, Pooled, Refs

if TYPE_CHECKING:
    from torch import Tensor


class Uniformity(Loss, name="uniformity"):
    """Unevenness of vectors of length one: log mean_{i<j} exp(-t ||x_i - x_j||^2) (Wang and Isola, 2020). A scalar.

    Several inputs are averaged. With `pairs: between` two inputs are compared with each other, over i != j:
    log mean exp(-t ||x_i - y_j||^2) (Fahim et al., 2024). A single row has no pair and loss 0.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector", "logits")}
    example: ClassVar[str] = "{use: uniformity, of: [image, text], t: 2}"

    of: Refs[Pooled] = ()
    t: float = Field(2.0, gt=0, le=1e6, description="decay of the kernel with the squared distance")
    pairs: Literal["within", "between"] = Field("within", description="of one input, or of the first and the second")
    normalize: bool = Field(True, description="whether vectors are scaled to length one first")

    def compute(self, *inputs: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        from mmflow.kernels import uniformity

        vectors = [normalize(x, dim=-1) if self.normalize else x for x in inputs]
        if self.pairs == "between":
            return self._between(*vectors)
        return torch.stack([uniformity(x, self.t) for x in vectors]).mean()

    def _between(self, *vectors: Tensor) -> Tensor:
        import math

        import torch

        from mmflow.kernels import row_logsumexp

        if len(vectors) != 2:
            raise ComponentError("pairs: between compares two inputs", found=f"{len(vectors)} in `of`")
        x, y = (v.float() if v.element_size() < 4 else v for v in vectors)
        count = len(x)
        if count < 2:
            return (x * 0).sum() + (y * 0).sum()
        # -t |x - y|^2 as 2t times an inner product of vectors that are two numbers longer.
        ones = x.new_ones(count, 1)
        left = torch.cat([x, x.square().sum(1, keepdim=True) / -2, ones], dim=1)
        right = torch.cat([y, ones, y.square().sum(1, keepdim=True) / -2], dim=1)
        sums = row_logsumexp(left, right, temperature=1 / (2 * self.t), exclude="self")
        return sums.logsumexp(0) - math.log(count * (count - 1))
