"""Private parts of torch: the worker processes of a DataLoader, what they share with their reader, fake parameters."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.context import BaseContext, ForkServerContext
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn import Module
    from torch.utils.data import DataLoader

VERSIONS = ">=2.13,<3"
"""The versions for which this module is written."""

Made = TypeVar("Made")


def worker_processes(loader: DataLoader[Made]) -> Sequence[BaseProcess]:
    """The worker processes of a loader that is being iterated, none before and after."""
    return getattr(getattr(loader, "_iterator", None), "_workers", ())


def end_workers(loader: DataLoader[Made]) -> None:
    """End the worker processes now: an iterator that a traceback keeps alive would hold them."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()


def cut_results(loader: DataLoader[Made]) -> None:
    """Close the pipe through which results come, when no worker is left to write: reading it fails at once then."""
    queue = getattr(getattr(loader, "_iterator", None), "_worker_result_queue", None)
    if queue is not None:
        queue._writer.close()


class Flag:
    """The methods that torch needs of an `Event`, without its lock.

    Workers look at the event between batches. A worker killed while it holds the lock of `multiprocessing.Event`
    would leave the reading process waiting for it forever.
    """

    def __init__(self, context: BaseContext) -> None:
        self._value = context.RawValue("b", 0)

    def set(self) -> None:
        self._value.value = 1

    def is_set(self) -> bool:
        return bool(self._value.value)


class WorkerContext(ForkServerContext):
    """Processes from a fork server, for the workers of a DataLoader."""

    def Event(self) -> Flag:  # type: ignore[override]
        return Flag(self)


def worker_context(preload: Sequence[str]) -> BaseContext:
    """How worker processes are started: from a fork server that has imported `preload`, spawned where there is none.

    Forked children inherit what a started Prefect flow leaves in the process, and die of it.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = WorkerContext()
    context.set_forkserver_preload(list(preload))
    return context


def fake_on_cpu(mode: FakeTensorMode, module: Module) -> None:
    """Turn a module that was built on the meta device into one of fake tensors on the CPU, in place.

    What `to_empty` does under the mode, in a third of its time.
    """
    import torch

    cpu = torch.device("cpu")
    made: dict[int, Tensor] = {}
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, tensor in held.items():
                if tensor is None or not tensor.is_meta:
                    continue
                if id(tensor) not in made:
                    made[id(tensor)] = mode.fake_tensor_converter.from_meta_and_device(mode, tensor, cpu)
                    made[id(tensor)]._is_param = isinstance(tensor, torch.nn.Parameter)
                held[name] = made[id(tensor)]  # pyright: ignore[reportArgumentType]
