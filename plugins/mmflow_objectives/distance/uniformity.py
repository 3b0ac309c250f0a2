"""Uniformity of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmflow.plugin import Loss, Pooled, Refs

if TYPE_CHECKING:
    from torch import Tensor


class Uniformity(Loss, name="uniformity"):
    """Unevenness of vectors of length one: log mean_{i<j} exp(-t ||x_i - x_j||^2) (Wang and Isola, 2020). A scalar.

    Several inputs are averaged. A single row has no pair and loss 0.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector", "logits")}
    example: ClassVar[str] = "{use: uniformity, of: [image, text], t: 2}"

    of: Refs[Pooled] = ()
    t: float = Field(2.0, gt=0, le=1e6, description="decay of the kernel with the squared distance")
    normalize: bool = Field(True, description="whether vectors are scaled to length one first")

    def compute(self, *inputs: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        from mmflow.kernels import uniformity

        vectors = [normalize(x, dim=-1) if self.normalize else x for x in inputs]
        return torch.stack([uniformity(x, self.t) for x in vectors]).mean()
