"""The eighteen methods that the language was designed on, whole: checked, traced, and most of them trained for a few
steps. Components that nobody has written yet have small stand-ins beside this file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.flow.run import RunOptions, run_members
from mmflow.model.outlook import outlook
from mmflow.model.shapes import check_shapes
from mmflow.spec import load_members

SPECS = sorted((Path(__file__).parent / "specs").glob("*.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_sketch_is_checked_and_traced(path: Path) -> None:
    for member in load_members(str(path)):
        outlook(member.spec)
        report = check_shapes(member.spec)
        assert [str(problem) for problem in report.problems] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_sketch_runs(path: Path, tmp_path: Path) -> None:
    options = RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu")
    outcome = run_members(load_members(str(path)), options)
    assert outcome.exit_code == 0, outcome.outcome.notes
