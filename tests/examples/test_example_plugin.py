"""The example plugin, installed as a user installs it: found, listed, checked, run, and its own tests pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.installed import installed, run

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the example's wheel is installed beside everything else."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    source.mkdir()
    for path in EXAMPLE.rglob("*"):
        if path.is_file() and not any(
            part.startswith((".", "__pycache__")) for part in path.relative_to(EXAMPLE).parts
        ):
            copy = source / path.relative_to(EXAMPLE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return installed(source, tmp_path_factory.mktemp("installed"))


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
