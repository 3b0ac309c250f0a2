"""The worker processes of one reader: started together, watched, and ended together.

A worker that is killed may leave half a batch in the pipe, and locks that nobody gives back. So when one has died the
others are killed too and the pipe is cut: the reading process meets an error, and never waits for what will not come.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, get_worker_info

from mmflow.compat.torch import cut_results, end_workers, worker_context, worker_processes
from mmflow.data.fetching import BatchFetcher, Result, Task
from mmflow.plugin.authors import place_of
from mmflow.plugin.samples import SampleError, describe

Fetched = TypeVar("Fetched")
_NOTICED = 2.0
"""Seconds that an error waits for the news of a death, which would explain it."""
_BURIED = 30.0
"""Seconds within which the other workers have ended, too."""
_UNKNOWN = 255
"""How a process from a fork server ends in the eyes of the second that asks for it."""


@dataclass(frozen=True)
class Death:
    """The end of a worker process that nobody has asked for."""

    pid: int | None
    code: int | None
    reading: str
    """The sample that it was reading, with the file opened last; empty where there was none."""

    def __str__(self) -> str:
        if self.code is not None and self.code < 0:
            ending = f"killed by {signal.Signals(-self.code).name}"
        else:
            ending = "ended" if self.code in (None, _UNKNOWN) else f"exit code {self.code}"
        return f"process {self.pid}, {ending}, {f'while it read {self.reading}' if self.reading else 'between samples'}"


class WorkerProcesses:
    """`count` processes that run a fetcher on tasks; task n of a pass goes to process n mod `count`."""

    def __init__(self, fetcher: BatchFetcher, count: int, pin: bool) -> None:
        _check_travels(fetcher)
        context = _context()
        self._tasks: Iterable[Task | None] = ()
        self._reading = _Lines(context, count)
        self._loader: DataLoader[Result] = DataLoader(
            fetcher,
            batch_size=None,
            sampler=_Upcoming(self),  # type: ignore[arg-type]
            num_workers=count,
            collate_fn=_same,
            pin_memory=pin,
            prefetch_factor=2,
            persistent_workers=True,
            multiprocessing_context=context,
            worker_init_fn=partial(_begin, self._reading),
            # Without one of its own, the loader would draw from the global generator.
            generator=torch.Generator(),
        )
        self._watch: threading.Thread | None = None
        self._closing = False
        self._deaths: list[Death] = []
        self._noticed, self._buried = threading.Event(), threading.Event()

    def results(self, tasks: Iterable[Task | None]) -> Iterator[Result]:
        """The results of `tasks`, which are drawn a few ahead."""
        self._tasks = tasks
        results = iter(self._loader)
        if self._watch is None:
            self._watch = threading.Thread(target=self._wait_for_deaths, name="mmflow-workers", daemon=True)
            self._watch.start()
        return results

    def deaths(self) -> Sequence[Death]:
        """The deaths behind an error that came instead of a result; none where it has another cause."""
        # A connection breaks a moment before its process is known to be gone.
        if self._noticed.wait(_NOTICED):
            self._buried.wait(_BURIED)
        return self._deaths

    def started(self) -> Sequence[BaseProcess]:
        """The processes that have been started."""
        return worker_processes(self._loader)

    def close(self) -> None:
        """End all processes."""
        self._closing = True
        end_workers(self._loader)

    def _wait_for_deaths(self) -> None:
        workers = self.started()
        gone = multiprocessing.connection.wait([worker.sentinel for worker in workers])
        if self._closing:
            return
        self._noticed.set()
        for number, worker in enumerate(workers):
            if worker.sentinel in gone:
                worker.join()
                self._deaths.append(Death(worker.pid, worker.exitcode, self._reading.read(number)))
        for worker in workers:
            if worker.sentinel not in gone:
                worker.kill()
                worker.join()
        cut_results(self._loader)
        self._buried.set()


class _Upcoming:
    """The sampler of the torch loader: the tasks of the current pass."""

    def __init__(self, processes: WorkerProcesses) -> None:
        self._processes = processes

    def __iter__(self) -> Iterator[Task | None]:
        return iter(self._processes._tasks)


class _Lines:
    """A line of text for each process, in memory that all share and that outlives each of them."""

    LENGTH = 1024

    def __init__(self, context: BaseContext, count: int) -> None:
        self._memory = context.RawArray("c", count * self.LENGTH)

    def write(self, number: int, text: str) -> None:
        data = text.encode(errors="replace")[: self.LENGTH - 1] + b"\0"
        start = number * self.LENGTH
        self._memory[start : start + len(data)] = data

    def read(self, number: int) -> str:
        start = number * self.LENGTH
        return bytes(self._memory[start : start + self.LENGTH]).split(b"\0")[0].decode(errors="ignore")


class _Mark:
    """In a worker: keeps its line, the sample being read and the file that was opened last for it."""

    def __init__(self, lines: _Lines, number: int) -> None:
        self._lines, self._number, self._text = lines, number, ""

    def __call__(self, text: str) -> None:
        self._text = text
        self._lines.write(self._number, text)

    def notice(self, event: str, arguments: tuple[object, ...]) -> None:
        """A hook of the interpreter's audit."""
        if event != "open" or not self._text or not isinstance(path := arguments[0], str):
            return
        if not path.endswith((".py", ".pyc", ".so")) and not path.startswith(("/dev/", "/proc/", "/sys/")):
            self._lines.write(self._number, f"{self._text} (file {path})")


def warm_up() -> None:
    """Begin to start the server that worker processes come from, without waiting: they are ready sooner."""
    if _context().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()


def _begin(lines: _Lines, number: int) -> None:
    """The first act of a worker: leave the signals to the main process, never outlive it, and say what is read."""
    # Ctrl-C and a scheduler's stop go to the process group; the main process decides about them.
    os.setpgrp()
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A forkserver lives as long as its children, so that they would never miss it: watch the main process itself.
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    info = get_worker_info()
    assert info is not None
    assert isinstance(info.dataset, BatchFetcher)
    mark = _Mark(lines, number)
    info.dataset.reading = mark
    sys.addaudithook(mark.notice)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes | pickle.PickleBuffer) -> int:
        # Large arrays arrive as buffers, which have no length of their own.
        return memoryview(data).nbytes


def _check_travels(fetcher: BatchFetcher) -> None:
    """Refuse a reader that cannot be sent to another process before any is started."""
    try:
        pickle.Pickler(_Nowhere(), pickle.HIGHEST_PROTOCOL).dump(fetcher.reader)
    except Exception as error:
        made = type(fetcher.reader)
        raise SampleError(
            f"{describe(fetcher.source)}: its reader {made.__name__} ({place_of(made)}) cannot be sent to loader "
            f"processes: {error}; open files when they are first read, not in __init__, or use `--workers 0`"
        ) from error


def _same(result: Fetched) -> Fetched:
    return result


def _context() -> BaseContext:
    return worker_context(["mmflow.data.loading"])


__all__ = ["Death", "WorkerProcesses", "warm_up"]
