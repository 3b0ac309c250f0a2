"""Asking a stage to stop, by a signal or by a cancellation, so that it can save its work.

A signal that raises in the middle of an optimizer step would let a checkpoint of half a step be written. So a stage
that asks `should_stop` between its steps is asked first, and only one that does not ask is interrupted where it is.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ASKS_EVERY = 30.0
"""Seconds within which a stage must have asked `should_stop` to be left to stop by itself."""


class Terminated(BaseException):
    """Raised in the main thread by a signal: at once where the stage at work does not ask, else by the second one."""


class Stopper:
    """One request to stop, from any thread, and the state of the stage that is to heed it."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """`SIGTERM`, `SIGINT` or `cancelled`, once there is one."""
        self._asked_at: float | None = None
        self._heeded = False
        self._in_stage = False
        self._timer: threading.Timer | None = None
        self._main = threading.main_thread()

    def polled(self) -> bool:
        """The answer to a stage that asks whether to stop."""
        self._asked_at = time.monotonic()
        if self.reason is not None:
            self._heeded = True
        return self.reason is not None

    def cancel(self) -> None:
        """Ask the stage at work to stop because the run was cancelled; called from another thread."""
        if self.reason is None:
            self.reason = "cancelled"
            if self._in_stage and not self._asks():
                self._wake()
            else:
                self._arm()

    @contextmanager
    def stage(self) -> Iterator[None]:
        """Around the work of one stage: signals come here, whatever took them before."""
        self._asked_at, self._heeded = None, False
        with self.listening():
            self._in_stage = True
            try:
                if self.reason is not None:
                    raise Terminated(self.reason)
                yield
            finally:
                self._in_stage = False
                self._disarm()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT until the end of the block; elsewhere than in the main thread nothing is taken."""
        if threading.current_thread() is not self._main:
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        first = self.reason is None
        if first:
            self.reason = signal.Signals(number).name
        if first and not self._in_stage:
            return
        if first and self._asks():
            self._arm()
        else:
            raise Terminated(self.reason)

    def _asks(self) -> bool:
        return self._asked_at is not None and time.monotonic() - self._asked_at < ASKS_EVERY

    def _arm(self) -> None:
        self._timer = threading.Timer(ASKS_EVERY, self._insist)
        self._timer.daemon = True
        self._timer.start()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _insist(self) -> None:
        if self._in_stage and not self._heeded:
            self._wake()

    def _wake(self) -> None:
        # The handler runs in the main thread, also where it waits in a system call.
        if self._main.ident is not None and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.pthread_kill(self._main.ident, signal.SIGTERM)
