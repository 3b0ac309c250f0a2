"""Running a fetcher on tasks, here or in worker processes, which are started again once if one of them dies."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from multiprocessing.process import BaseProcess

import torch

from mmflow.data.batches import Batch
from mmflow.data.fetching import BatchFetcher, Failed, PartitionEnd, Result, Task
from mmflow.data.processes import Death, WorkerProcesses
from mmflow.data.quarantine import quarantine
from mmflow.plugin.samples import SampleError, describe
from mmflow.redaction import redacted

log = logging.getLogger(__name__)


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
        self._processes: WorkerProcesses | None = None
        self._restarted = False

    def run(self, tasks: Iterable[Task | None]) -> Iterator[Batch | PartitionEnd | None]:
        """The results of `tasks`, which are drawn a few ahead.

        `waited` grows by the seconds that the caller had to wait. Raises `SampleError` for a batch that could not be
        fetched, and for the second death of a worker; after the first one the tasks without a result are given again.
        """
        pending = _Pending(tasks)
        results = self._results(pending)
        while True:
            begun = time.perf_counter()
            try:
                result = next(results)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                deaths = self._processes.deaths() if self._processes is not None else ()
                if isinstance(error, SampleError) or not deaths:
                    raise
                self._after(deaths, error)
                results = self._results(pending)
                continue
            finally:
                self.waited += time.perf_counter() - begun
            pending.answered()
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
        processes, self._processes = self._processes, None
        if processes is not None:
            processes.close()

    def processes(self) -> Sequence[BaseProcess]:
        """The worker processes that there are now."""
        return () if self._processes is None else self._processes.started()

    def _results(self, tasks: Iterable[Task | None]) -> Iterator[Result]:
        if not self.count:
            return self._fetched_here(tasks)
        if self._processes is None:
            self._processes = WorkerProcesses(self.fetcher, self.count, self.pin)
        return self._processes.results(tasks)

    def _fetched_here(self, tasks: Iterable[Task | None]) -> Iterator[Result]:
        for task in tasks:
            result = self.fetcher[task]
            yield result.pin_memory() if self.pin and isinstance(result, Batch) else result

    def _after(self, deaths: Sequence[Death], error: Exception) -> None:
        """Make room for new processes; raises where there have been new ones already."""
        self.close()
        said = "; ".join(map(str, deaths))
        whose = f"a loader worker of {describe(self.fetcher.source)} died"
        if self._restarted:
            raise SampleError(
                f"{whose} for the second time ({said}). The usual causes are a sample on which a library crashes, too "
                "little memory (fewer workers, smaller batches; SIGBUS: too little shared memory, /dev/shm), or a kill "
                "from outside; with `workers: 0` it happens in the run's own process."
            ) from error
        self._restarted = True
        log.warning("%s (%s); all are started again, once, and go on at the same batch", whose, said)

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


class _Pending:
    """Tasks as they are drawn; iterated again, those come first that have no answer yet."""

    def __init__(self, tasks: Iterable[Task | None]) -> None:
        self._rest = iter(tasks)
        self._open: deque[Task | None] = deque()

    def __iter__(self) -> Iterator[Task | None]:
        again, self._open = self._open, deque()
        for task in chain(again, self._rest):
            self._open.append(task)
            yield task

    def answered(self) -> None:
        """The result of the task drawn first has come."""
        self._open.popleft()


__all__ = ["Workers"]
