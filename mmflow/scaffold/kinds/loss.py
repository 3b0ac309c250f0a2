"""A loss of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmflow.plugin import Loss

if TYPE_CHECKING:
    from torch import Tensor


class CLASS(Loss, name="NAME"):
    """Squared distance of matched vectors beyond a slack: max(0, ||a - b||^2 - slack).

    Say here what the loss is, with its formula and the paper.
    """

    example: ClassVar[str] = "{use: NAME, of: [image, text], slack: 0.1}"

    slack: float = Field(0.0, ge=0, le=1e6, description="squared distance that costs nothing")

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        """Vectors [N, D] of the global batch, in the order of `of` -> a value a row [N], or one number."""
        return ((a - b).square().sum(-1) - self.slack).clamp_min(0)
