"""Schedules: numbers that follow the clock of a train stage."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, model_validator

from mmflow.plugin import Clock, Value


class Schedule(Value):
    """Base: a warm-up to `initial`, then a way from `initial` to `final` over the steps that remain.

    During `w` warm-up steps the value is initial * (s + 1) / (w + 1) at step s = 0, ..., w - 1.
    """

    initial: float = Field(1.0, description="value when the warm-up is over")
    warmup: float = Field(0.0, ge=0, description="steps; below 1 a fraction of all steps")

    def at(self, clock: Clock) -> float:
        warm = self.warmup if self.warmup >= 1 else round(self.warmup * clock.steps)
        if clock.step < warm:
            return self.initial * (clock.step + 1) / (warm + 1)
        left = clock.steps - warm
        return self.after(min(1.0, (clock.step - warm) / left) if left > 0 else 1.0, clock)

    def after(self, done: float, clock: Clock) -> float:
        """The value once warm; `done` is the share of the remaining steps, in [0, 1]."""
        raise NotImplementedError


class Cosine(Schedule, name="cosine"):
    """Half a cosine: final + (initial - final) (1 + cos(pi f)) / 2, f the share done (Loshchilov and Hutter, 2017)."""

    example: ClassVar[str] = "schedule: {use: cosine, warmup: 0.1}"

    final: float = Field(0.0, description="value at the end")

    def after(self, done: float, clock: Clock) -> float:
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * done)) / 2


class Linear(Schedule, name="linear"):
    """A straight line: initial + (final - initial) f, f the share done."""

    example: ClassVar[str] = "weight: {use: linear, initial: 0.0, final: 1.0}"

    final: float = Field(0.0, description="value at the end")

    def after(self, done: float, clock: Clock) -> float:
        return self.initial + (self.final - self.initial) * done


class Step(Schedule, name="step"):
    """Stairs: initial * factor^k; k grows by one at each of `places`, or `every` so many steps or epochs."""

    example: ClassVar[str] = "schedule: {use: step, every: {epochs: 5}, factor: 0.1}"

    places: tuple[PositiveFloat, ...] = Field((), description="steps; those below 1 are fractions of all steps")
    every: PositiveFloat | dict[Literal["steps", "epochs"], PositiveFloat] | None = Field(
        None, description="steps, or {epochs: N}"
    )
    factor: float = Field(0.1, gt=0, description="what the value is multiplied by at each place")

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
