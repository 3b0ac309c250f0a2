"""Mutants of all shipped specs through `check --shapes`, in process: `python tests/long/mutants/run.py --count 10000`.

Held is a mutant that is accepted or refused, each problem with its line, within 5 s of processor time and 1 GB beside
the imports. Prints the others and `held of tried`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import wave
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checking import MEMORY, SECONDS
from mutations import mutant

ROOT = Path(__file__).parents[3]
SPECS = sorted([*(ROOT / "specs").rglob("*.yaml"), *Path(__file__).parent.glob("specs/*.yaml")])
CHUNK = 200
SILENCE = 600.0
"""Seconds without a word after which a process is ended."""


@dataclass(frozen=True)
class Failure:
    """A mutant that was not held, and why."""

    spec: Path
    number: int
    reason: str


@dataclass
class Tried:
    """All that was tried."""

    outcomes: Counter[str]
    failures: list[Failure]
    slowest: float = 0.0
    largest: int = 0


def tried(specs: list[Path], numbers: range) -> Tried:
    """Check each number's mutant, of the specs in turn."""
    found = Tried(Counter(), [])
    with tempfile.TemporaryDirectory() as folder:
        record_digits(Path(folder) / "fsdd" / "recordings")
        for place, spec in enumerate(specs):
            own = list(numbers[place :: len(specs)])
            while own:
                rows = list(_checked(spec, own[:CHUNK], folder))
                for row in rows:
                    _count(found, spec, row)
                # A process that ended early is begun again behind the mutant that ended it.
                own = own[len(rows) :]
    return found


def record_digits(folder: Path) -> None:
    """Noise under the names of the recordings that specs/spoken_digits.yaml reads."""
    draw = random.Random(0)
    folder.mkdir(parents=True)
    for digit, take in itertools.product(range(10), range(10)):
        with wave.open(str(folder / f"{digit}_{('george', 'theo')[take % 2]}_{take}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
            file.writeframes(draw.randbytes(2 * draw.randint(2000, 4000)))


def _count(found: Tried, spec: Path, row: dict[str, Any]) -> None:
    outcome, seconds, memory = row["outcome"], row["seconds"], row["memory"]
    if seconds > SECONDS / 2 or memory > MEMORY / 2:
        print(f"{spec.name} {row['number']}: {outcome} after {seconds:.1f} s with {memory // 1000} MB", flush=True)
    found.slowest, found.largest = max(found.slowest, seconds), max(found.largest, memory)
    if outcome in ("ok", "refused") and (seconds > SECONDS or memory > MEMORY):
        outcome = f"{outcome} after {seconds:.1f} s with {memory // 1000} MB"
    if outcome in ("ok", "refused"):
        found.outcomes[outcome] += 1
    else:
        found.outcomes["not held"] += 1
        found.failures.append(Failure(spec, row["number"], outcome))
        print(f"{spec.name} {row['number']}: {outcome}", flush=True)


def _checked(spec: Path, numbers: list[int], folder: str) -> Iterator[dict[str, Any]]:
    """A row for each number, up to one that ends the process."""
    command = [sys.executable, str(Path(__file__).with_name("checking.py")), str(spec), *map(str, numbers)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **offline, "MMFLOW_CACHE": f"{folder}/cache"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment) as process:
        assert process.stdout is not None
        begun: int | None = None
        while True:
            timer = threading.Timer(SILENCE, process.kill)
            timer.start()
            line = process.stdout.readline()
            timer.cancel()
            if not line:
                break
            row = json.loads(line)
            if "begun" in row:
                begun = row["begun"]
            else:
                begun = None
                yield row
    if begun is not None:
        reason = "no answer" if process.returncode == -9 else f"the process ended with {process.returncode}"
        yield {"number": begun, "outcome": reason, "seconds": 0.0, "memory": 0}
    elif process.returncode:
        raise RuntimeError(f"{spec.name}: the process ended with {process.returncode} before its first mutant")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--show", type=int, nargs="*", default=[], help="print the mutants of these numbers instead")
    parser.add_argument("--spec", type=Path, nargs="*", default=SPECS)
    chosen = parser.parse_args()
    specs = [spec.resolve() for spec in chosen.spec]
    if chosen.show:
        for number in chosen.show:
            for spec in specs:
                print(f"--- {spec.name} {number}\n{mutant(spec.read_text(), number).decode(errors='replace')}")
        return
    found = tried(specs, range(chosen.first, chosen.first + chosen.count))
    held = found.outcomes["ok"] + found.outcomes["refused"]
    print(
        f"{held} held of {held + len(found.failures)} tried: {found.outcomes['ok']} accepted, "
        f"{found.outcomes['refused']} refused; slowest {found.slowest:.1f} s, largest {found.largest // 1000} MB"
    )
    raise SystemExit(bool(found.failures))


if __name__ == "__main__":
    main()
