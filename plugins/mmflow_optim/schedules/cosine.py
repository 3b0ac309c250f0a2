"""Half a cosine."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from mmflow.plugin import Clock
from mmflow_optim.schedules.base import Schedule


class Cosine(Schedule, name="cosine"):
    """Half a cosine: final + (initial - final) (1 + cos(pi f)) / 2, f the share done (Loshchilov and Hutter, 2017)."""

    example: ClassVar[str] = "schedule: {use: cosine, warmup: 0.1}"

    final: float = Field(0.0, ge=-1e9, le=1e9, description="value at the end")

    def after(self, done: float, clock: Clock) -> float:
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * done)) / 2
