"""Single results of a stage outlive a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmflow.flow.store import RunStore

pytestmark = pytest.mark.process

SCRIPT = Path(__file__).with_name("search_run.py")


def start(store: Path, hold: str, *force: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(store), hold, *force]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"))


def finished(store: Path, *force: str) -> tuple[list[str], list[dict[str, int]]]:
    """The numbers of the results that a run has made, and what it has published."""
    with start(store, "none", *force) as child:
        *made, last = child.communicate(timeout=120)[0].splitlines()
    said = json.loads(last)
    assert child.returncode == 0, said
    return made, json.loads((RunStore(store).fetch(said["key"]) / "found.json").read_text())


def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    with start(tmp_path, "4") as child:
        assert child.stdout is not None
        begun = [child.stdout.readline().strip() for _ in range(5)]
        child.kill()
    assert begun == ["0", "1", "2", "3", "4"]
    scores = [{"score": number * number} for number in range(6)]
    assert finished(tmp_path) == (["4", "5"], scores)
    assert finished(tmp_path) == ([], scores)
    # Forced, it makes them again.
    assert finished(tmp_path, "found") == (["0", "1", "2", "3", "4", "5"], scores)
