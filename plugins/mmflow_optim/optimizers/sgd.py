"""Stochastic gradient descent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from mmflow_optim.optimizers.base import Decayed, Share, fusable

if TYPE_CHECKING:
    from torch.optim import Optimizer as TorchOptimizer


class Sgd(Decayed, name="sgd"):
    """Stochastic gradient descent with momentum: v = momentum v + g, w = w - lr v (Sutskever et al., 2013)."""

    example: ClassVar[str] = "optimizer: {use: sgd, lr: 0.1, momentum: 0.9, weight_decay: 1e-4}"

    momentum: Share = Field(0.9, description="share of the previous step that is kept")
    nesterov: bool = Field(False, description="the look-ahead form (Nesterov, 1983); needs momentum")

    @model_validator(mode="after")
    def _momentum_to_look_ahead(self) -> Sgd:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: true needs a momentum above 0")
        return self

    def build(self, groups: list[dict[str, Any]]) -> TorchOptimizer:
        import torch

        groups = self.decayed(groups)
        return torch.optim.SGD(groups, momentum=self.momentum, nesterov=self.nesterov, fused=fusable(groups))
