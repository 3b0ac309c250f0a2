"""An optimizer of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import Optimizer

if TYPE_CHECKING:
    import torch


class CLASS(Optimizer, name="NAME"):
    """RMSprop (Tieleman and Hinton, 2012).

    Say here which optimizer it is, with the paper.
    """

    example: ClassVar[str] = "{use: NAME, lr: 0.001, alpha: 0.99}"

    alpha: float = Field(0.99, ge=0, lt=1, description="share of the mean square that a step keeps")

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """`groups`: dicts with `params`, `lr` and, where set, `weight_decay`."""
        from torch.optim import RMSprop

        return RMSprop(groups, alpha=self.alpha)
