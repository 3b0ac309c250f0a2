"""Squared differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmflow.plugin import ComponentError, Loss, Pooled, Refs

if TYPE_CHECKING:
    from torch import Tensor


class MeanSquaredError(Loss, name="mse"):
    """Squared difference of two inputs of one shape, the mean over all values of a row: mean_d (a_d - b_d)^2."""

    per_row: ClassVar[bool] = True
    example: ClassVar[str] = "{use: mse, of: [decoded, target.detach]}"

    of: Refs[Pooled] = Field(min_length=2, max_length=2)

    def compute(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape:
            raise ComponentError("mse takes inputs of one shape", found=f"{list(a.shape)} and {list(b.shape)}")
        return (a - b).square().flatten(1).mean(1)
