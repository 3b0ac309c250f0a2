"""The sampler `sequential`: every sample once an epoch, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mmflow.plugin import Draw, Streamed
from mmflow_samplers.passes import Pass


class Sequential(Pass, name="sequential"):
    """Every sample once an epoch, in the source's order."""

    example: ClassVar[str] = "sampler: sequential"

    def order(self, draw: Draw) -> Sequence[int]:
        return range(draw.length)

    def streamed(self) -> Streamed:
        return Streamed(shuffle=False, drop_last=self.drop_last)
