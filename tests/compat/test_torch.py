"""Private parts of torch do what `mmflow.compat.torch` needs of them, at the installed version."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from importlib.metadata import requires, version

import pytest
import torch
from packaging.requirements import Requirement
from torch.utils.data import DataLoader, Dataset

from mmflow.compat.torch import VERSIONS, Flag, end_workers, worker_context, worker_processes

pytestmark = pytest.mark.process


class Squares(Dataset[int]):
    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> int:
        return index * index


def loader() -> DataLoader[int]:
    return DataLoader(
        Squares(), batch_size=4, num_workers=2, persistent_workers=True, multiprocessing_context=worker_context([])
    )


def test_the_bounds_are_those_of_the_distribution():
    (declared,) = (r for r in map(Requirement, requires("mmflow-kit") or []) if r.name == "torch")
    assert Requirement(f"torch{VERSIONS}").specifier == declared.specifier
    assert version("torch") in declared.specifier


def test_workers_are_known_while_there_are_some_and_end_when_told():
    reading = loader()
    assert not worker_processes(reading)
    batches = iter(reading)
    assert torch.equal(next(batches), torch.tensor([0, 1, 4, 9]))
    processes = list(worker_processes(reading))
    assert len(processes) == 2
    assert all(process.is_alive() for process in processes)
    end_workers(reading)
    assert not any(process.is_alive() for process in processes)


def test_a_killed_worker_is_noticed():
    reading = loader()
    batches = iter(reading)
    next(batches)
    for process in worker_processes(reading):
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises((RuntimeError, OSError, EOFError)):
        list(batches)
    end_workers(reading)


def look(flag: Flag, count: ctypes.c_long) -> None:
    while not flag.is_set():
        count.value += 1


@pytest.mark.parametrize("_", range(3))
def test_a_process_killed_while_it_looks_at_the_flag_holds_nobody(_: int):
    context = worker_context([])
    flag = context.Event()
    count = context.RawValue(ctypes.c_long, 0)
    process = context.Process(target=look, args=(flag, count))  # type: ignore[attr-defined]
    process.start()
    while count.value < 10_000:
        assert process.is_alive()
    process.kill()
    process.join()
    # With a lock, this would wait for the dead forever: a thread of its own lets the test end.
    answers: list[bool] = []
    asking = threading.Thread(target=lambda: answers.append(flag.is_set()), daemon=True)
    asking.start()
    asking.join(20)
    assert answers == [False]
    flag.set()
    assert flag.is_set()
