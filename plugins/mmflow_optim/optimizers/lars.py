"""Layer-wise adaptive rate scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow_optim.optimizers.base import Decayed, Share

if TYPE_CHECKING:
    from torch.optim import Optimizer as TorchOptimizer


class Lars(Decayed, name="lars"):
    """SGD whose step is scaled for each weight matrix by trust * ||w|| / ||g|| (You et al., 2017).

    g includes the weight decay. Parameters of one dimension or none take unscaled steps, as is usual for norms and
    biases. v = momentum v + scale g, w = w - lr v.
    """

    example: ClassVar[str] = "optimizer: {use: lars, lr: 0.6, weight_decay: 1e-6}"

    momentum: Share = Field(0.9, description="share of the previous step that is kept")
    trust: float = Field(0.001, gt=0, le=1e6, description="ratio of the lengths of step and weight, at rate one")

    def build(self, groups: list[dict[str, Any]]) -> TorchOptimizer:
        from mmflow_optim.optimizers.lars_step import LARS

        return LARS(self.decayed(groups), momentum=self.momentum, trust=self.trust)
