"""The eighteen methods that the language was designed on, whole: checked, traced and run for a few steps. Components
that nobody has written yet have small stand-ins beside this file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.flow.run import RunOptions, run_members
from mmflow.model.outlook import outlook
from mmflow.model.shapes import check_shapes
from mmflow.spec import load_members

SPECS = sorted((Path(__file__).parent / "specs").glob("*.yaml"))
WITHOUT_TRAINING = {"14", "16", "18"}


def test_all_eighteen_are_here() -> None:
    assert {path.name[:2] for path in SPECS} == {f"{number:02}" for number in range(1, 19)}


@pytest.mark.slow
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_sketch_is_checked_traced_and_run(path: Path, tmp_path: Path) -> None:
    members = load_members(str(path))
    for member in members:
        outlook(member.spec)
        assert [str(problem) for problem in check_shapes(member.spec).problems] == []
    outcome = run_members(members, RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    trains = any(stage.trains for member in members for stage in member.spec.stages.values())
    assert trains == (path.name[:2] not in WITHOUT_TRAINING)
