"""A run alone and beside busy processes, with the command's waiting of threads and with the libraries' own.

Run: python benchmarks/busy_machine.py [SPEC] [--set ...]. Prints wall and processor seconds (user and system, loader
workers included) and the ratio of processor time to that of the run alone; beside two busy processes it is to stay
below 1.3. Without arguments one epoch of the quickstart is run, four times: about three minutes on two cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPEC = Path(__file__).parent.parent / "specs" / "quickstart.yaml"
ARGUMENTS = [str(SPEC), "--set", "train.epochs=1"]
BUSY = 2
WAYS = {
    "the command's": {},
    # Of GNU's OpenMP, which PyTorch's wheels bring: so often a waiting thread looks before it sleeps.
    "the libraries' own": {"GOMP_SPINCOUNT": "300000", "OPENBLAS_NUM_THREADS": str(os.cpu_count() or 1)},
}


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute and do nothing else."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def run(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and processor seconds of one run in a store of its own."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "mmflow", "run", *arguments, "--local", "--quiet", "--store", store]
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **environment})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"mmflow run ended with {process.returncode}")
        return time.monotonic() - begun, usage.ru_utime + usage.ru_stime


def main(arguments: list[str]) -> None:
    """Print a line for each way of waiting, alone and beside `BUSY` processes."""
    print(f"{'waiting':<22}{'beside':>10}{'wall s':>10}{'cpu s':>10}{'cpu ratio':>11}")
    for way, environment in WAYS.items():
        quiet = None
        for others in (0, BUSY):
            with busy(others):
                wall, cpu = run(arguments or ARGUMENTS, environment)
            quiet = quiet or cpu
            print(f"{way:<22}{others:>10}{wall:>10.1f}{cpu:>10.1f}{cpu / quiet:>11.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
