"""The example plugin, installed as a user installs it: found, listed, checked, run, and its own tests pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the example's wheel is installed beside everything else."""
    target = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source") / "plugin"
    source.mkdir()
    for path in EXAMPLE.rglob("*"):
        if path.is_file() and not any(
            part.startswith((".", "__pycache__")) for part in path.relative_to(EXAMPLE).parts
        ):
            copy = source / path.relative_to(EXAMPLE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(source)], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(target)}


def run(environment: dict[str, str], *command: str, at: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=at, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_listed_with_its_components(environment: dict[str, str], tmp_path: Path) -> None:
    listed = run(environment, "mmflow", "list", at=tmp_path)
    assert all(name in listed for name in ("cosine_margin", "gated_linear", "spread"))


def test_its_spec_runs(environment: dict[str, str], tmp_path: Path) -> None:
    spec = str(EXAMPLE / "spec.yaml")
    run(environment, "mmflow", "check", spec, "--shapes", at=tmp_path)
    printed = run(environment, "mmflow", "run", spec, "--local", "--store", str(tmp_path / "store"), at=tmp_path)
    assert "image" in printed
    assert "spread" in printed


def test_its_own_tests_pass(environment: dict[str, str], tmp_path: Path) -> None:
    assert " passed" in run(environment, "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "tests"), at=tmp_path)
