"""Two processes of one gloo group, started once a session, that compute a loss on the same batch."""

from __future__ import annotations

import atexit
import multiprocessing
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mmflow.plugin import Loss
from mmflow.testing.compute import Input, Settings, compute

if TYPE_CHECKING:
    from torch import Tensor

RANKS = 2


def on_two_ranks(loss: Loss, inputs: Mapping[str, Input], weights: Mapping[str, Tensor]) -> list[float]:
    """The value of `loss` with its own `weights` on `inputs` in each process."""
    asked = [pool.submit(_value, loss, dict(inputs), dict(weights)) for pool in _pools()]
    return [future.result() for future in asked]


@cache
def _pools() -> tuple[ProcessPoolExecutor, ...]:
    meeting = Path(tempfile.mkdtemp(prefix="mmflow-ranks-")) / "store"
    context = multiprocessing.get_context("spawn")
    pools = tuple(
        ProcessPoolExecutor(1, context, initializer=_join, initargs=(f"file://{meeting}", rank, sys.path))
        for rank in range(RANKS)
    )
    for pool in pools:
        atexit.register(pool.shutdown, wait=False, cancel_futures=True)
    return pools


def _join(meeting: str, rank: int, path: list[str]) -> None:
    # The module of a component may lie where only this session looks for it.
    sys.path[:] = path
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=RANKS)


def _value(loss: Loss, inputs: dict[str, Input], weights: dict[str, Tensor]) -> float:
    return float(compute(loss, inputs, Settings(), weights).value)
