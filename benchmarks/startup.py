"""CPU time (user + system) of the commands that must be quick. Run: python benchmarks/startup.py [ROUNDS]."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SPEC = Path(__file__).parent.parent / "specs" / "quickstart.yaml"
COMMANDS = {
    "mmflow --help": (["--help"], 0.15),
    "mmflow list": (["list"], 0.35),
    "mmflow check specs/quickstart.yaml": (["check", str(SPEC)], 0.35),
    "mmflow plan specs/quickstart.yaml": (["plan", str(SPEC), "--store", "no-such-store"], 0.45),
}


def cpu_seconds(arguments: list[str]) -> float:
    """CPU seconds of one fresh process."""
    process = subprocess.Popen([sys.executable, "-m", "mmflow", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"mmflow {' '.join(arguments)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main(rounds: int) -> None:
    """Print the best and the median of `rounds` fresh processes for each command, after one that warms the disk."""
    print(f"{'command':<40}{'best':>8}{'median':>8}{'aim':>8}   (CPU seconds, {rounds} rounds)")
    for name, (arguments, aim) in COMMANDS.items():
        cpu_seconds(arguments)
        times = sorted(cpu_seconds(arguments) for _ in range(rounds))
        print(f"{name:<40}{times[0]:>8.3f}{times[len(times) // 2]:>8.3f}{aim:>8.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
