"""Bounds of every weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from mmflow.plugin import Constraint

if TYPE_CHECKING:
    from torch import Tensor


class WithinBounds(Constraint, name="bounds"):
    """Every weight from `min` to `max`, of which one may be left out (weights of a Wasserstein critic; Arjovsky et al.,
    2017; nonnegative weights)."""

    example: ClassVar[str] = "constrain: {use: bounds, min: -0.01, max: 0.01}"

    min: float | None = Field(None, ge=-1e30, le=1e30)
    max: float | None = Field(None, ge=-1e30, le=1e30)

    @model_validator(mode="after")
    def _in_order(self) -> WithinBounds:
        if self.min is None and self.max is None:
            raise ValueError("give `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} lies above max {self.max:g}")
        return self

    def project(self, weights: Tensor) -> Tensor:
        return weights.clamp(self.min, self.max)
