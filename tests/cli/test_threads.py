"""Threads sleep while they wait, unless the user has said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process
PROGRAM = """
import os, sys
from mmflow.cli import main
sys.argv = ["mmflow", "--help"]
try:
    main()
except SystemExit:
    pass
print(os.environ["OMP_WAIT_POLICY"], os.environ["OPENBLAS_NUM_THREADS"])
"""


@pytest.mark.parametrize(
    ("own", "found"),
    [({}, "PASSIVE 1"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE 1"), ({"OPENBLAS_NUM_THREADS": "2"}, "PASSIVE 2")],
)
def test_the_command_says_how_threads_wait(own: dict[str, str], found: str) -> None:
    kept = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS")
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**kept, **own}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == found
