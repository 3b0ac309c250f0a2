"""Models of other libraries are described by building them without memory: within bounds, whatever their files say."""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mmflow.plugin import ComponentError, RawValue

MOST_MODULES: Final = 20_000
"""Modules of a described model: about those of a hundred blocks with sixty experts each."""
LARGEST: Final = 2**24
"""Of a whole number in a configuration: more than the longest context or the largest vocabulary."""
COUNTS: Final = re.compile(r"layer|depth|block|stage|expert|head|group|repeat")
"""In the names of numbers that say how many of a part there are: libraries make lists of these at once."""
MOST_PARTS: Final = 2**16
MOST_LABELS: Final = 2**20
SECONDS: Final = 8.0
"""Processor time of one description, with the imports of the library's own module."""
MEMORY: Final = 1_000_000
"""KiB that one description may add."""
_EVERY = 0.05


class _Enough(BaseException):
    """Raised inside a description that went on for too long. No `Exception`: libraries go on after these."""


def checked_numbers(configuration: RawValue, name: str) -> None:
    """Raises `ComponentError` for a whole number in a configuration that would unfold into lists without end."""
    waiting: list[tuple[str, RawValue]] = [("", configuration)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(str(inner), one) for inner, one in value.items()]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            waiting += [(key, one) for one in value]
        elif isinstance(value, int) and value > (most := _most(key)):
            raise ComponentError(f"`{key}` of {name} is {str(value)[:40]}, and at most {most:,} is read")


def _most(key: str) -> int:
    if key == "num_labels":
        return MOST_LABELS
    return MOST_PARTS if COUNTS.search(key) else LARGEST


@contextmanager
def described_within_bounds(name: str) -> Iterator[None]:
    """The model `name` is built inside, without memory. Raises `ComponentError` where it has too many modules, or takes
    too long or too much memory to build."""
    from torch import nn
    from torch.nn.modules.module import register_module_module_registration_hook

    thread, modules = threading.get_ident(), 0

    def count(module: nn.Module, name: str, submodule: nn.Module | None) -> None:
        nonlocal modules
        modules += threading.get_ident() == thread
        if modules > MOST_MODULES:
            raise _Enough

    handle = register_module_module_registration_hook(count)
    try:
        with _watched(thread):
            yield
    except _Enough:
        why = f"more than {MOST_MODULES:,} modules" if modules > MOST_MODULES else f"{SECONDS:.0f} s or 1 GB of memory"
        raise ComponentError(
            f"{name} is too large to be described: building it takes {why}", hint="see the sizes in its configuration"
        ) from None
    finally:
        handle.remove()


@contextmanager
def _watched(thread: int) -> Iterator[None]:
    """Raise `_Enough` in this thread once it has spent its time or memory inside."""
    spent, memory, ended, turn = _clock(thread), _resident(), threading.Event(), threading.Lock()
    began, before = spent(), memory
    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def watch() -> None:
        while not ended.wait(_EVERY):
            if spent() - began < SECONDS and _resident() - before < MEMORY:
                continue
            with turn:
                if not ended.is_set():
                    raised(ctypes.c_ulong(thread), ctypes.py_object(_Enough))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        with turn:
            ended.set()
            # One that has not arrived yet would arrive outside.
            raised(ctypes.c_ulong(thread), None)
        watcher.join()


def _clock(thread: int) -> Callable[[], float]:
    """The processor time of a thread, where the system tells it; else that of the process."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.process_time
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)


def _resident() -> int:
    """KiB of memory that the process holds; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4
