"""Numbers that move."""

from __future__ import annotations

from mmflow.plugin import Clock, Value


class Halve(Value, name="halve"):
    """A number that halves after some epochs."""

    start: float = 1.0
    after: float = 1.0
    every: float = 1.0

    def at(self, clock: Clock) -> float:
        return self.start * 0.5 ** max(0.0, (clock.epoch - self.after) // self.every)
