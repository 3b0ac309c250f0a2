"""How slow this machine is at the moment, for bounds of processor time."""

from __future__ import annotations

import time

QUIET = 0.14
"""Seconds of processor time of the loop below on a quiet machine of today."""


def seconds_here(quiet: float) -> float:
    """Processor time on this machine, beside what else it does, for what takes `quiet` seconds on a quiet one."""
    began = time.process_time()
    sum(len(f"{number}.{number}".split(".")) for number in range(500_000))
    return quiet * max(1.0, (time.process_time() - began) / QUIET)
