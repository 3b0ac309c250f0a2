"""A number that moves, of one's own."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from mmflow.plugin import Clock, Value


class CLASS(Value, name="NAME"):
    """From `start` to `end` by halves: half of the way is left after each share `half` of the training.

    Say here how the number moves.
    """

    example: ClassVar[str] = "{use: infonce, of: [image, text], temperature: {use: NAME, start: 0.2, end: 0.07}}"

    start: float = Field(1.0, ge=-1e6, le=1e6)
    end: float = Field(0.0, ge=-1e6, le=1e6)
    half: float = Field(0.1, gt=0, le=1, description="share of the training in which half of the way is gone")

    def at(self, clock: Clock) -> float:
        """The number at a step; `clock` knows the steps done and to do."""
        return self.end + (self.start - self.end) * 0.5 ** (clock.fraction / self.half)
