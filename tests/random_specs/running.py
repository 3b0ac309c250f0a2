"""A spec carried out in this process: refused with a line, accepted and run to its end, or a fault of mmflow."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from mmflow.flow.run import RunOptions, run_spec
from mmflow.spec import SpecError, load_text


@dataclass(frozen=True)
class Outcome:
    state: Literal["accepted", "refused", "failed"]
    said: str
    """The messages of a refusal, or of a failure with its traceback."""


def carry_out(text: str) -> Outcome:
    """Check a spec; where it is accepted, train and evaluate with a store of its own."""
    folder = tempfile.mkdtemp(prefix="mmflow-random-")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        spec = load_text(text, file="spec.yaml")
        # Trackers write where they are run.
        with contextlib.chdir(folder):
            outcome = run_spec(spec, RunOptions(store=folder, engine="local", device="cpu"))
        tracebacks = _tracebacks(folder)
    except SpecError as refused:
        placed = all(problem.mark is not None and problem.mark.line > 0 for problem in refused.problems)
        return Outcome("refused" if placed else "failed", str(refused) if placed else f"without a line: {refused}")
    except Exception:
        return Outcome("failed", traceback.format_exc())
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(folder, ignore_errors=True)
    states = outcome.outcome.stages
    done = outcome.exit_code == 0 and all(state in ("done", "cached") for state in states.values())
    notes = "\n".join(outcome.outcome.notes)
    return Outcome("accepted", notes) if done else Outcome("failed", f"{tracebacks}\n{states}\n{notes}")


def _tracebacks(folder: str) -> str:
    return "\n".join(path.read_text() for path in sorted(Path(folder).rglob("*.error.txt")))
