"""A straight line."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from mmflow.plugin import Clock
from mmflow_optim.schedules.base import Schedule


class Linear(Schedule, name="linear"):
    """A straight line: initial + (final - initial) f, f the share done."""

    example: ClassVar[str] = "weight: {use: linear, initial: 0.0, final: 1.0}"

    final: float = Field(0.0, ge=-1e9, le=1e9, description="value at the end")

    def after(self, done: float, clock: Clock) -> float:
        return self.initial + (self.final - self.initial) * done
