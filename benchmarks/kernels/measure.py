"""Time, memory and error of contenders, each in a process of its own, taken in turns.

All contenders of a comparison are alive at once and step one after the other, round by round, so that whatever else the
machine does falls on all of them; the ratio is the median over rounds of the ratio within a round.
"""

import multiprocessing
import resource
import sys
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor


@dataclass
class Result:
    """Seconds per step in order of the rounds, the peak memory of a step above its inputs in bytes, and the error.

    `error` is the largest relative distance in norm of a gradient (or of the result) to mmflow's in float64.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    memory: int = 0
    error: float | None = None
    skipped: str = ""

    @property
    def time(self) -> float:
        return median(self.seconds)


def compare(
    operation: str, size: int, dim: int, dtype: torch.dtype, device: str, names: list[str], rounds: int, threads: int,
    clock: str, check: bool,
) -> list[Result]:  # fmt: skip
    """Results of the named contenders, in their order. One that cannot run says why in `skipped`."""
    truth = _in_process(operation, size, dim, torch.float64, device, names[0], threads) if check else None
    context = multiprocessing.get_context("spawn")
    results, alive = [Result(name) for name in names], []
    for result in results:
        mine, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, operation, size, dim, dtype, device, result.name, threads), daemon=True
        )
        process.start()
        theirs.close()
        ready = _receive(mine)
        if isinstance(ready, str):
            result.skipped = ready
            process.join()
            continue
        result.memory = ready["memory"]
        if truth is not None:
            result.error = _error(ready["outputs"], truth)
        alive.append((result, mine, process))
    for _ in range(rounds):
        for result, connection, _ in alive:
            connection.send(clock)
            answer = _receive(connection)
            if isinstance(answer, str):
                raise RuntimeError(f"{operation} {size} {result.name}: {answer}")
            result.seconds.append(answer["seconds"])
    for _, connection, process in alive:
        connection.send("end")
        process.join()
    return results


def ratio(other: Result, ours: Result) -> float:
    """How many times longer the other takes: the median over rounds."""
    return median(a / b for a, b in zip(other.seconds, ours.seconds, strict=True))


def _in_process(operation: str, size: int, dim: int, dtype: torch.dtype, device: str, name: str, threads: int):
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(
        target=_serve, args=(theirs, operation, size, dim, dtype, device, name, threads), daemon=True
    )
    process.start()
    theirs.close()
    ready = _receive(mine)
    if isinstance(ready, str):
        process.join()
        return None
    mine.send("end")
    process.join()
    return ready["outputs"]


def _receive(connection: Connection) -> dict[str, Any] | str:
    try:
        return connection.recv()
    except EOFError:
        return "the process ended (out of memory?)"


def _serve(
    connection: Connection,
    operation: str,
    size: int,
    dim: int,
    dtype: torch.dtype,
    device: str,
    name: str,
    threads: int,
) -> None:
    from .contenders import OPERATIONS

    torch.set_num_threads(threads)
    try:
        entry = OPERATIONS[operation]
        small = entry.inputs(64, dim, dtype, device)
        warm = entry.contenders[name](small)
        warm()
        step = entry.contenders[name](entry.inputs(size, dim, dtype, device))
        memory, outputs = _first(step, device)
        connection.send({"memory": memory, "outputs": {k: v.detach().cpu().double() for k, v in outputs.items()}})
    except (ImportError, NotImplementedError) as reason:
        connection.send(f"{type(reason).__name__}: {str(reason).splitlines()[0]}")
        return
    except Exception as reason:
        traceback.print_exc()
        connection.send(f"{type(reason).__name__}: {str(reason).splitlines()[0][:200]}")
        return
    while (word := connection.recv()) != "end":
        clock = time.process_time if word == "cpu" else time.perf_counter
        start = clock()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        connection.send({"seconds": clock() - start})


def _first(step, device: str) -> tuple[int, dict[str, Tensor]]:
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        outputs = step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before, outputs
    before = _reset_peak()
    outputs = step()
    return _peak() - before, outputs


def _reset_peak() -> int:
    """Bytes of resident memory now; where the system allows it, its high-water mark starts again from there."""
    marks = Path("/proc/self/clear_refs")
    if not marks.exists():
        return _peak()
    marks.write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    if Path("/proc/self/clear_refs").exists():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def _error(outputs: dict[str, Tensor], truth: dict[str, Tensor]) -> float | None:
    distances = []
    for name, value in outputs.items():
        if name in truth and value.shape == truth[name].shape:
            distances.append(float((value - truth[name]).norm() / truth[name].norm().clamp_min(1e-30)))
    return max(distances, default=None)
