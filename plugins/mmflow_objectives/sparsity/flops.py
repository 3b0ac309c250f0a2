"""The penalty of sparse vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import Loss, Pooled, Refs

if TYPE_CHECKING:
    from torch import Tensor


class Flops(Loss, name="flops"):
    """The expected cost of a sparse search: sum_j (mean_i |x_ij|)^2 over entries j of vectors x_i (Paria et al., 2020).

    It spreads activity over entries, and sets few of them. A scalar; several inputs are added up.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector", "logits")}
    example: ClassVar[str] = "{use: flops, of: [query, document], weight: 1e-3}"

    of: Refs[Pooled] = ()

    def compute(self, *inputs: Tensor) -> Tensor:
        import torch

        return torch.stack([x.flatten(0, -2).abs().mean(0).square().sum() for x in inputs]).sum()
