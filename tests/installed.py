"""A plugin installed beside everything else, in a folder of its own, and commands that find it there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def installed(source: Path, target: Path) -> dict[str, str]:
    """An environment in which the plugin in `source` is installed, in `target`."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(source)], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(target)}


def run(environment: dict[str, str], *command: str, at: Path) -> str:
    """The output of `python -m COMMAND` in the folder `at`, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=at, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
