"""Memories that want rows before the first step: batches through the untrained model, and nothing else of it moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mmflow.data import Batch
from mmflow.model.model import Model
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Memory
from mmflow.plugin.numbers import Clock
from mmflow.plugin.targets import Owner
from mmflow.train.step import Step


def warm(
    model: Model, batches: Iterator[Batch], clock: Clock, micro_batch_size: int | None, autocast: torch.dtype | None
) -> Iterator[str]:
    """Give batches to the memories that want some, as steps would, until none wants more; tell of it in a line.

    Raises `ComponentError` where two epochs change nothing, as no row is present in all columns of a memory.
    """
    filled = owners = _waiting(model)
    taken, idle, epoch = 0, 0, None
    with _statistics_stay(model):
        while owners:
            batch = next(batches)
            if batch.epoch != epoch:
                epoch, idle = batch.epoch, idle + 1
            if idle > 2:
                raise ComponentError(
                    f"{', '.join(map(str, owners))} cannot be filled before the first step",
                    found="no further row is present in all of its columns",
                    hint="write fill: empty",
                )
            step = Step(model, micro_batch_size=micro_batch_size, autocast=autocast, graph=model.graph.part(owners))
            with torch.no_grad():
                found = step.forward(batch, clock).result.memories
            idle = 0 if found else idle
            model.remember({owner: state for owner, state in found.items() if owner in owners})
            taken, owners = taken + 1, _waiting(model)
    if filled:
        yield f"filled {', '.join(map(str, filled))} with {taken} batches"


def _waiting(model: Model) -> list[Owner]:
    nodes = model.graph.nodes.values()
    memories = [(node.owner, node.component) for node in nodes if isinstance(node.component, Memory)]
    return [owner for owner, memory in memories if memory.waits(model.memories[owner])]


@contextmanager
def _statistics_stay(model: Model) -> Iterator[None]:
    """Put the buffers back that a forward moves (running statistics of batch norm)."""
    before = {name: buffer.clone() for name, buffer in model.root.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in model.root.named_buffers():
                buffer.copy_(before[name])
