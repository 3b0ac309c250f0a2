"""Alignment of matched vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmflow.plugin import Loss, Pooled, Refs

if TYPE_CHECKING:
    from torch import Tensor


class Alignment(Loss, name="alignment"):
    """Distance of matched vectors to a power: ||a - b||^power, vectors of length one (Wang and Isola, 2020)."""

    per_row: ClassVar[bool] = True
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector", "logits")}
    example: ClassVar[str] = "{use: alignment, of: [image, text], power: 2}"

    of: Refs[Pooled] = Field((), max_length=2)
    power: float = Field(2.0, gt=0, le=1000, description="exponent of the distance")
    normalize: bool = Field(True, description="whether vectors are scaled to length one first")

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        if self.normalize:
            a, b = normalize(a, dim=-1), normalize(b, dim=-1)
        squared = (a - b).square().sum(-1)
        if self.power == 2:
            return squared
        # The slope of a power below two is infinite at zero distance.
        return squared.clamp_min(torch.finfo(squared.dtype).tiny).pow(self.power / 2)
