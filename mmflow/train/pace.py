"""How fast a run goes: the share of its time that it waits for data, and the samples that it takes."""

from __future__ import annotations

import time


class Pace:
    """The share of its time that a run waits for data: waiting over waiting and steps, after `WARM_UP` steps.

    The first steps of a process start workers and fill caches; they are left out each time.
    """

    WARM_UP = 10

    def __init__(self, seconds: float = 0.0, waited: float = 0.0) -> None:
        self.seconds, self.waited = seconds, waited
        self._steps = 0
        self._last = (0.0, 0.0)

    def begin(self, waited: float) -> None:
        self._last = (time.monotonic(), waited)

    def step(self, waited: float) -> None:
        """A step is done; `waited` is the time in seconds spent waiting so far."""
        now = (time.monotonic(), waited)
        self._steps += 1
        if self._steps > self.WARM_UP:
            self.seconds += now[0] - self._last[0]
            self.waited += now[1] - self._last[1]
        self._last = now

    def measured(self) -> dict[str, float]:
        """`waiting`, a share from 0 to 1; nothing before there is anything to go by."""
        return {"waiting": round(self.waited / self.seconds, 4)} if self.seconds else {}

    def state(self) -> tuple[float, float]:
        return self.seconds, self.waited


class Window:
    """Samples since the last logged step, for the throughput."""

    def __init__(self) -> None:
        self.samples, self.begun = 0, time.monotonic()
