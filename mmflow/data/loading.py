"""Loading: the same batches from a cursor, however many worker processes read them.

The order is a function of (seed, epoch) and a view of (seed, epoch, id, view, copy, transform), so a cursor
(epoch, batches done) is all the state there is. Workers get whole batches to make and keep nothing between them.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from mmflow.data.batches import Batch, ColumnBatch, collate, map_members
from mmflow.data.samples import (
    ColumnRequest,
    SampleError,
    SkippedSample,
    describe,
    failure,
    read_labels,
    read_sample,
    safe_id,
)
from mmflow.data.views import Row, RowError, ViewedRows, column_type, fields_of, needs_batch
from mmflow.plugin.kinds import Reader, Sampler, Source, View

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One batch to make: `epoch` None asks for the deterministic form of views; `columns` come from the sampler."""

    epoch: int | None
    index: int
    samples: Sequence[int]
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """What a worker sends instead of a batch that it could not make."""

    message: str


class BatchMaker(Dataset[Any]):
    """Makes the batch of a task; picklable, and all that a worker process holds."""

    def __init__(
        self,
        source: Source,
        reader: Reader,
        views: Mapping[str, View],
        requests: Sequence[ColumnRequest],
        seed: int,
    ) -> None:
        self.source, self.reader, self.views, self.seed = source, reader, dict(views), seed
        self.requests = [request for request in requests if request.target.section != "sampler"]
        self.sampled = [request for request in requests if request.target.section == "sampler"]
        declared = source.fields()
        self.types = {r.key: column_type(r.target, declared, views) for r in self.requests}
        wanted = {field for r in self.requests for field in fields_of(r.target, views)}
        self.fields = tuple(sorted(wanted))
        self.together = any(needs_batch(r.target, views) for r in self.requests)
        self._templates: dict[str, Any] = {}

    def __getitem__(self, task: Task) -> Batch | Failed:
        try:
            return self.make(task)
        except SampleError as error:
            if get_worker_info() is None:
                raise
            return Failed(str(error))

    def make(self, task: Task) -> Batch:
        turns: dict[str, int] = {}
        rows: list[Row] = []
        values: list[dict[str, Any]] = []
        kept: list[int] = []
        skipped: dict[str, tuple[str, str | None]] = {}
        for place, index in enumerate(task.samples):
            id = safe_id(self.reader, index)
            turn = turns[id] = turns.get(id, -1) + 1
            try:
                row = self.read(index, id, turn)
            except SkippedSample as skip:
                skipped[id] = (skip.reason, skip.quarantine)
                continue
            kept.append(place)
            if not self.together:
                # Each row is finished before the next is read, so that raw samples do not add up.
                values += self.view([row], task.epoch)
                row = Row({}, id)
            rows.append(row)
        if self.together:
            values = self.view(rows, task.epoch, task.index)
        ids = [row.id for row in rows]
        columns: dict[str, ColumnBatch] = {}
        for request in self.requests:
            column = [row[request.key] for row in values]
            type_ = self.types[request.key]
            template = self._template(request) if column and all(value is None for value in column) else None
            try:
                columns[request.key] = collate(column, type_, template)
            except ValueError as error:
                raise SampleError(
                    f"{describe(self.source)}, column {request.key!r} of the batch with samples "
                    f"{ids[0]!r} to {ids[-1]!r}: {error}"
                ) from error
        for request in self.sampled:
            columns[request.key] = ColumnBatch(torch.as_tensor(task.columns[request.target.name])[kept])
        return Batch(columns, ids, len(ids), task.epoch or 0, task.index, skipped)

    def read(self, index: int, id: str, turn: int = 0) -> Row:
        """A sample with the fields that are wanted of it."""
        try:
            return Row({"id": id, **read_sample(self.reader, index, self.fields)}, id, turn)
        except Exception as error:
            raise failure(error, source=self.source, id=id) from error

    def view(
        self, rows: Sequence[Row], epoch: int | None, batch: int = 0, only: ColumnRequest | None = None
    ) -> list[dict[str, Any]]:
        """The values of each row by key, preprocessed and ready to be joined."""
        viewed = ViewedRows(rows, self.views, seed=self.seed, epoch=epoch, batch=batch)
        found: list[dict[str, Any]] = [{} for _ in rows]
        for request in self.requests if only is None else [only]:
            depth = len(self.types[request.key].axes) - 1
            at: int | None = None
            try:
                for at, value in enumerate(viewed.get(request.target)):
                    found[at][request.key] = map_members(value, depth, request.preprocess)
            except Exception as error:
                cause = error
                if isinstance(error, RowError):
                    cause, at = error.__cause__ or error, error.row
                section = request.target.section.removesuffix("s")
                doing = f"{section} {request.target.name!r} for column {request.key!r}"
                if at is None and len(rows) > 1:
                    doing += f", a batch of {len(rows)} rows that begins with it"
                raise failure(cause, source=self.source, id=rows[at or 0].id, doing=doing) from error
        return found

    def _template(self, request: ColumnRequest) -> Any:
        """A member of a column as it would be, from the first sample that has it (deterministic form)."""
        if request.key not in self._templates:
            self._templates[request.key] = None
            for index in range(len(self.reader)):
                try:
                    row = self.read(index, safe_id(self.reader, index))
                    member = self.view([row], None, only=request)[0][request.key]
                except SampleError:
                    continue
                for _ in range(len(self.types[request.key].axes) - 1):
                    member = next((m for m in member or () if m is not None), None)
                if member is not None:
                    self._templates[request.key] = member
                    break
        return self._templates[request.key]


class Stream:
    """Batches of tasks, in order, made here (`workers` 0) or by worker processes that are kept between epochs."""

    def __init__(self, maker: BatchMaker, workers: int, pin: bool) -> None:
        self.maker, self.pin = maker, pin and torch.cuda.is_available()
        if workers and getattr(maker.reader, "in_process", False):
            log.warning("%s lives in this process: it is read here, not by %d workers", describe(maker.source), workers)
            workers = 0
        self.workers = workers
        self.waited = 0.0
        self.batches = 0
        self.skipped: dict[str, str] = {}
        self._tasks: list[Task] = []
        self._loader: DataLoader[Any] | None = None

    def run(self, tasks: list[Task]) -> Iterator[Batch]:
        """The batches of `tasks`; `waited` grows by the seconds that the caller had to wait for them."""
        made = iter(self._make_here(tasks) if not self.workers else self._make_there(tasks))
        while True:
            begun = time.perf_counter()
            try:
                batch = next(made)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                raise self._explained(error) from error
            finally:
                self.waited += time.perf_counter() - begun
            if isinstance(batch, Failed):
                self.close()
                raise SampleError(batch.message)
            self.batches += 1
            self._note(batch)
            if not batch.size:
                raise SampleError(
                    f"{describe(self.maker.source)}: every sample of a batch is left out, as its policy says"
                )
            yield batch

    def close(self) -> None:
        """End the worker processes, now: an iterator kept alive by a traceback would hold them."""
        loader, self._loader = self._loader, None
        iterator = getattr(loader, "_iterator", None)
        if iterator is not None:
            iterator._shutdown_workers()

    def _make_here(self, tasks: list[Task]) -> Iterator[Any]:
        for task in tasks:
            batch = self.maker[task]
            yield batch.pin_memory() if self.pin and isinstance(batch, Batch) else batch

    def _make_there(self, tasks: list[Task]) -> Iterator[Any]:
        if self._loader is None:
            self._loader = DataLoader(
                self.maker,
                batch_size=None,
                sampler=_Upcoming(self),  # type: ignore[arg-type]
                num_workers=self.workers,
                collate_fn=_same,
                pin_memory=self.pin,
                prefetch_factor=2,
                persistent_workers=True,
                multiprocessing_context=_context(),
                worker_init_fn=_alone,
                # The loader would draw from the global generator, which belongs to nobody here.
                generator=torch.Generator(),
            )
        self._tasks = tasks
        return iter(self._loader)

    def _explained(self, error: Exception) -> Exception:
        """The error, or, where a worker has died (also in the middle of handing a batch over), what that means."""
        workers = getattr(getattr(self._loader, "_iterator", None), "_workers", [])
        for worker in workers if isinstance(error, (OSError, EOFError)) else ():
            # The connection breaks a moment before the process is known to be gone.
            worker.join(timeout=0.5)
        dead = [worker for worker in workers if not worker.is_alive()]
        if isinstance(error, SampleError) or not (dead or "DataLoader worker" in str(error)):
            return error
        codes = ", ".join(f"process {w.pid}: {_ending(w.exitcode)}" for w in dead) or str(error)
        self.close()
        return RuntimeError(
            f"a loader worker of {describe(self.maker.source)} died ({codes}). The usual causes are too little memory "
            "(fewer workers, smaller batches; SIGBUS: too little shared memory, /dev/shm) or a library that crashed; "
            "with `workers: 0` it happens in this process."
        )

    def _note(self, batch: Batch) -> None:
        for id, (reason, quarantine) in batch.skipped.items():
            if id in self.skipped:
                continue
            self.skipped[id] = reason
            if len(self.skipped) <= 5:
                log.warning("%s leaves out sample %r: %s", describe(self.maker.source), id, reason)
            if quarantine:
                _append(quarantine, id, reason)


class _Upcoming:
    """What the torch loader takes its tasks from: those of the stream's current pass."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Task]:
        return iter(self.stream._tasks)

    def __len__(self) -> int:
        return len(self.stream._tasks)


class Loader:
    """Training batches of a source: the same for any number of workers, from any cursor.

    A source with static fields alone (one big graph) has one batch an epoch, without rows: a pass over the whole.

    `requests` name the columns; `sampler_column` is the field that the sampler balances or groups by.
    `waited` is the time in seconds that the caller waited for batches, `skipped` the samples left out (id: reason).
    """

    def __init__(
        self,
        source: Source,
        views: Mapping[str, View],
        requests: Sequence[ColumnRequest],
        *,
        sampler: Sampler,
        batch_size: int,
        seed: int,
        workers: int = 0,
        sampler_column: str | None = None,
        pin: bool = False,
    ) -> None:
        self.reader = source.open()
        self.sampler, self.batch_size, self.seed = sampler, batch_size, seed
        self._labels = None if sampler_column is None else read_labels(self.reader, source, sampler_column)
        self._count: int | None = None
        self._stream = Stream(BatchMaker(source, self.reader, views, requests, seed), workers, pin)
        self.length = len(self.reader)
        self._static = not self.length and bool(self.reader.static())
        if not self.length and not self._static:
            raise SampleError(f"{describe(source)} has no samples")

    @property
    def batches_per_epoch(self) -> int:
        if self._static:
            return 1
        if self._count is None:
            # Where the order follows a column, only drawing it tells how many batches there are.
            drawn = self._labels is not None
            self._count = sum(1 for _ in self._draw(0)) if drawn else self.sampler.count(self.length, self.batch_size)
        return self._count

    @property
    def waited(self) -> float:
        return self._stream.waited

    @property
    def skipped(self) -> Mapping[str, str]:
        return self._stream.skipped

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from the one at `start`: exactly those of a pass that was never interrupted."""
        if self._static:
            return iter([] if start else [Batch({}, [], 0, epoch)])
        tasks: list[Task] = []
        for index, batch in enumerate(self._draw(epoch)):
            if index < start:
                continue
            columns: Mapping[str, Any] = {}
            if isinstance(batch, tuple):
                batch, columns = batch
            tasks.append(Task(epoch, index, batch, columns))
        return self._stream.run(tasks)

    def _draw(self, epoch: int) -> Iterator[Any]:
        return self.sampler.batches(self.length, self.batch_size, seed=self.seed, epoch=epoch, labels=self._labels)

    def close(self) -> None:
        """End the worker processes; iterating again starts new ones."""
        self._stream.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def scan(
    source: Source,
    views: Mapping[str, View],
    requests: Sequence[ColumnRequest],
    *,
    batch_size: int,
    workers: int = 0,
    seed: int = 0,
) -> Iterator[Batch]:
    """Every sample once, in the source's order, with views in their deterministic form."""
    reader = source.open()
    stream = Stream(BatchMaker(source, reader, views, requests, seed), workers, pin=False)
    starts = range(0, len(reader), batch_size)
    try:
        yield from stream.run(
            [Task(None, i, range(s, min(s + batch_size, len(reader))), {}) for i, s in enumerate(starts)]
        )
    finally:
        stream.close()


def _same(batch: Any) -> Any:
    return batch


def _alone(_: int) -> None:
    """What a worker does first: leave the signals to the main process, and never outlive it."""
    # Ctrl-C and a scheduler's stop go to the process group; the main process decides what they mean.
    os.setsid()
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


def _context() -> Any:
    # Forked children inherit what a started Prefect flow leaves in the process, and die of it.
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mmflow.data.loading"])
    return context


def _append(url: str, id: str, reason: str) -> None:
    import json

    import fsspec

    with fsspec.open(url, "at", encoding="utf-8") as file:
        file.write(json.dumps({"id": id, "reason": reason}) + "\n")  # type: ignore[union-attr]


__all__ = ["BatchMaker", "Loader", "Stream", "Task", "scan"]
