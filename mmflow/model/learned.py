"""A learned number: one scalar parameter with bounds."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Constrained(Protocol):
    """A module that puts its parameters back where they must stay after each step of the optimizer."""

    def constrain(self) -> None: ...


class LearnedValue(nn.Module):
    """A scalar; stored as its logarithm where `exponential`, so that it stays positive.

    `forward()` gives the 0-d value; `constrain()` puts it back inside `[low, high]` after an optimizer step
    (a clamp in the forward pass would stop its gradient at the bound).
    """

    def __init__(self, init: float, low: float | None, high: float | None, *, exponential: bool) -> None:
        super().__init__()
        self.exponential = exponential
        self.bounds = (low, high)
        """The ends as they are declared."""
        self.raw = nn.Parameter(torch.tensor(math.log(init) if exponential else float(init)))
        self.low = self._stored(low)
        self.high = self._stored(high)

    def _stored(self, bound: float | None) -> float | None:
        if bound is None or not self.exponential:
            return bound
        return math.log(bound) if bound > 0 else None

    def forward(self) -> Tensor:
        return self.raw.exp() if self.exponential else self.raw

    @torch.no_grad()
    def constrain(self) -> None:
        if self.low is not None or self.high is not None:
            self.raw.clamp_(self.low, self.high)
