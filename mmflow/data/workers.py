"""Worker processes that fetch batches: started once, kept between epochs, fed with tasks, and watched."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import TypeVar

import torch
from torch.utils.data import DataLoader

from mmflow.compat.torch import end_workers, worker_context, worker_processes
from mmflow.data.batches import Batch
from mmflow.data.fetching import BatchFetcher, Failed, PartitionEnd, Result, Task
from mmflow.data.quarantine import quarantine
from mmflow.plugin.authors import place_of
from mmflow.plugin.samples import SampleError, describe
from mmflow.redaction import redacted

log = logging.getLogger(__name__)

Fetched = TypeVar("Fetched")


class Workers:
    """Runs a fetcher on tasks, in their order: in this process (`count` 0), or in worker processes.

    Task n of a pass goes to worker n mod `count`, so that a task can find what an earlier one has left open.
    """

    def __init__(self, fetcher: BatchFetcher, count: int, pin: bool) -> None:
        self.fetcher, self.pin = fetcher, pin and torch.cuda.is_available()
        if count and getattr(fetcher.reader, "in_process", False):
            if count > 1:
                log.warning("%s lives in this process and is read here, not by workers", describe(fetcher.source))
            count = 0
        self.count = count
        self.waited = 0.0
        self.skipped: dict[str, str] = {}
        self._tasks: Iterable[Task | None] = ()
        self._loader: DataLoader[Result] | None = None

    def run(self, tasks: Iterable[Task | None]) -> Iterator[Batch | PartitionEnd | None]:
        """The results of `tasks`, which are drawn a few ahead.

        `waited` grows by the seconds that the caller had to wait. Raises `SampleError` for a batch that could not be
        fetched, and `RuntimeError` where a worker has died.
        """
        results = iter(self._fetch_here(tasks) if not self.count else self._fetch_in_workers(tasks))
        while True:
            begun = time.perf_counter()
            try:
                result = next(results)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                raise self._explained(error) from error
            finally:
                self.waited += time.perf_counter() - begun
            if isinstance(result, Failed):
                self.close()
                raise SampleError(result.message)
            if isinstance(result, Batch):
                self._note(result)
            yield result

    def batches(self, tasks: Iterable[Task | None]) -> Iterator[Batch]:
        """The batches among the results of `tasks`."""
        return (result for result in self.run(tasks) if isinstance(result, Batch))

    def close(self) -> None:
        """End the worker processes."""
        loader, self._loader = self._loader, None
        if loader is not None:
            end_workers(loader)

    def processes(self) -> Sequence[BaseProcess]:
        """The worker processes that there are now."""
        return () if self._loader is None else worker_processes(self._loader)

    def _fetch_here(self, tasks: Iterable[Task | None]) -> Iterator[Result]:
        for task in tasks:
            result = self.fetcher[task]
            yield result.pin_memory() if self.pin and isinstance(result, Batch) else result

    def _fetch_in_workers(self, tasks: Iterable[Task | None]) -> Iterator[Result]:
        if self._loader is None:
            _check_travels(self.fetcher)
            self._loader = DataLoader(
                self.fetcher,
                batch_size=None,
                sampler=_Upcoming(self),  # type: ignore[arg-type]
                num_workers=self.count,
                collate_fn=_same,
                pin_memory=self.pin,
                prefetch_factor=2,
                persistent_workers=True,
                multiprocessing_context=_context(),
                worker_init_fn=_alone,
                # Without one of its own, the loader would draw from the global generator.
                generator=torch.Generator(),
            )
        self._tasks = tasks
        return iter(self._loader)

    def _explained(self, error: Exception) -> Exception:
        """The error, or an explanation where a worker has died (also in the middle of handing a batch over)."""
        workers = self.processes()
        for worker in workers if isinstance(error, (OSError, EOFError)) else ():
            # The connection breaks a moment before the process is known to be gone.
            worker.join(timeout=0.5)
        dead = [worker for worker in workers if not worker.is_alive()]
        if isinstance(error, SampleError) or not (dead or "DataLoader worker" in str(error)):
            return error
        codes = ", ".join(f"process {w.pid}: {_ending(w.exitcode)}" for w in dead) or str(error)
        self.close()
        return RuntimeError(
            f"a loader worker of {describe(self.fetcher.source)} died ({codes}). The usual causes are too little "
            "memory (fewer workers, smaller batches; SIGBUS: too little shared memory, /dev/shm) or a library that "
            "crashed; with `workers: 0` it happens in this process."
        )

    def _note(self, batch: Batch) -> None:
        for id, (reason, file) in batch.skipped.items():
            if id in self.skipped:
                continue
            reason = redacted(reason)
            self.skipped[id] = reason
            if len(self.skipped) <= 5:
                log.warning("%s leaves out sample %r: %s", describe(self.fetcher.source), id, reason)
            if file:
                try:
                    quarantine(file, redacted(describe(self.fetcher.source)), id, reason)
                except OSError as error:
                    raise SampleError(
                        f"{describe(self.fetcher.source)}: the file `quarantine: {file}` cannot be written: {error}"
                    ) from error


def warm_up() -> None:
    """Begin to start the server that worker processes come from, without waiting: they are ready sooner."""
    if _context().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()


class _Upcoming:
    """The sampler of the torch loader: the tasks of the current pass."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers

    def __iter__(self) -> Iterator[Task | None]:
        return iter(self.workers._tasks)


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)


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


def _alone(_: int) -> None:
    """The first act of a worker: leave the signals to the main process, and never outlive it."""
    # Ctrl-C and a scheduler's stop go to the process group; the main process decides about them.
    os.setpgrp()
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A forkserver lives as long as its children, so that they would never miss it: watch the main process itself.
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _context() -> BaseContext:
    return worker_context(["mmflow.data.loading"])


__all__ = ["Workers", "warm_up"]
