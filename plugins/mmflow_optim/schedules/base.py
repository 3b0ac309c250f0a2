"""The base of the schedules: a warm-up, then a decay."""

from __future__ import annotations

from pydantic import Field

from mmflow.plugin import Clock, Value


class Schedule(Value):
    """Base: a warm-up to `initial`, then a change from `initial` to `final` over the remaining steps.

    During `w` warm-up steps the value is initial * (s + 1) / (w + 1) at step s = 0, ..., w - 1.
    """

    initial: float = Field(1.0, ge=-1e9, le=1e9, description="value at the end of the warm-up")
    warmup: float = Field(0.0, ge=0, le=1e12, description="number of steps; below 1 a fraction of all steps")

    def at(self, clock: Clock) -> float:
        warm = self.warmup if self.warmup >= 1 else round(self.warmup * clock.steps)
        if clock.step < warm:
            return self.initial * (clock.step + 1) / (warm + 1)
        left = clock.steps - warm
        return self.after(min(1.0, (clock.step - warm) / left) if left > 0 else 1.0, clock)

    def after(self, done: float, clock: Clock) -> float:
        """The value after the warm-up; `done` is the share of the remaining steps that are done, in [0, 1]."""
        raise NotImplementedError
