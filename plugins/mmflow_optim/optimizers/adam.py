"""Adam and AdamW."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow_optim.optimizers.base import Decayed, Share, fusable

if TYPE_CHECKING:
    from torch.optim import Optimizer as TorchOptimizer


class AdamW(Decayed, name="adamw"):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), fused into one kernel where torch can."""

    example: ClassVar[str] = "optimizer: {use: adamw, lr: 1e-3, weight_decay: 0.05}"

    weight_decay: float = Field(
        0.01, ge=0, le=1e6, description="share of a weight that decays in a step, times the learning rate"
    )
    betas: tuple[Share, Share] = Field(
        (0.9, 0.999), description="decay of the running means of gradients and of their squares"
    )
    eps: float = Field(1e-8, gt=0, le=1e6, description="added to the root of the mean square")

    def build(self, groups: list[dict[str, Any]]) -> TorchOptimizer:
        import torch

        groups = self.decayed(groups)
        return torch.optim.AdamW(groups, betas=self.betas, eps=self.eps, fused=fusable(groups))


class Adam(Decayed, name="adam"):
    """Adam (Kingma and Ba, 2015); its weight decay is part of the gradient."""

    example: ClassVar[str] = "optimizer: {use: adam, lr: 1e-3}"

    betas: tuple[Share, Share] = Field(
        (0.9, 0.999), description="decay of the running means of gradients and of their squares"
    )
    eps: float = Field(1e-8, gt=0, le=1e6, description="added to the root of the mean square")

    def build(self, groups: list[dict[str, Any]]) -> TorchOptimizer:
        import torch

        groups = self.decayed(groups)
        return torch.optim.Adam(groups, betas=self.betas, eps=self.eps, fused=fusable(groups))
