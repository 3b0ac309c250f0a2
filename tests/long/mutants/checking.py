"""Checks mutants one after another in this process, and writes a line of JSON for each."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
import traceback
from pathlib import Path

from mutations import mutant

SECONDS = 5.0
"""Processor time that `check --shapes` may take for one file, after the imports."""
MEMORY = 1_000_000
"""KiB that it may take beside those of the imports."""
MOST = 4 * 2**30
"""Bytes at which the process itself ends."""


def checked(text: bytes, file: str) -> str:
    """`ok`, `refused`, or how the check failed."""
    from mmflow.model.outlook import outlook
    from mmflow.model.shapes import ShapeCheck
    from mmflow.spec import SpecError, load_members

    try:
        problems, check = [], ShapeCheck()
        for member in load_members(file, text=text):
            problems += check.of(member.spec).problems
            outlook(member.spec)
    except SpecError as error:
        problems = list(error.problems)
    except BaseException as error:
        return f"raised {type(error).__name__}: {error} at {traceback.extract_tb(error.__traceback__)[-1]}"
    lost = [str(problem)[:300] for problem in problems if problem.mark is None]
    if lost:
        return f"no place: {lost[0]}"
    memory = [str(problem)[:300] for problem in problems if "MemoryError" in str(problem) or "allocate" in str(problem)]
    if memory:
        return f"out of memory: {memory[0]}"
    long = [len(str(problem)) for problem in problems if len(str(problem)) > 4000]
    return f"a line of {long[0]} characters" if long else "refused" if problems else "ok"


def peak() -> int:
    """The largest memory since `forget_peak`, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    spec, *numbers = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    text = Path(spec).read_text()
    resource.setrlimit(resource.RLIMIT_DATA, (MOST, MOST))
    checked(text.encode(), spec)
    for number in map(int, numbers):
        print(json.dumps({"begun": number}), flush=True)
        forget_peak()
        before, began = resident(), time.process_time()
        outcome = checked(mutant(text, number), spec)
        row = {"number": number, "outcome": outcome, "seconds": time.process_time() - began, "memory": peak() - before}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
