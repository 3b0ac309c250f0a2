"""Stairs."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import Clock
from mmflow_optim.schedules.base import Schedule

Length = Annotated[float, Field(gt=0, le=1e12)]


class Step(Schedule, name="step"):
    """Stairs: initial * factor^k; k grows by one at each of `places`, or every `every` steps or epochs."""

    example: ClassVar[str] = "schedule: {use: step, every: {epochs: 5}, factor: 0.1}"

    places: tuple[Length, ...] = Field((), description="steps; those below 1 are fractions of all steps")
    every: Length | dict[Literal["steps", "epochs"], Length] | None = Field(None, description="steps, or {epochs: N}")
    factor: float = Field(0.1, gt=0, le=1e6, description="factor of the value at each place")

    @model_validator(mode="after")
    def _one_way(self) -> Step:
        if bool(self.places) == (self.every is not None):
            raise ValueError("give either `places` or `every`")
        return self

    def after(self, done: float, clock: Clock) -> float:
        reached = sum(clock.step >= (place if place >= 1 else place * clock.steps) for place in self.places)
        if self.every is not None:
            every = self.every if isinstance(self.every, dict) else {"steps": self.every}
            now = {"steps": float(clock.step), "epochs": clock.epoch}
            reached += sum(math.floor(now[unit] / length + 1e-9) for unit, length in every.items())
        return self.initial * self.factor**reached
