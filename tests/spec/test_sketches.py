"""The eighteen hard methods that the language was designed on can be written in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.plugin.registry import Registry
from mmflow.spec import SpecError, load_members
from mmflow.spec.text.expand import read_spec
from mmflow.spec.text.yaml_reader import parse_text
from mmflow.spec.text.yaml_writer import write_yaml

SKETCHES = sorted((Path(__file__).parent / "sketches").glob("*.yaml"))


def test_there_are_eighteen_methods() -> None:
    assert {path.name[:2] for path in SKETCHES} == {f"{number:02}" for number in range(1, 19)}


@pytest.mark.parametrize("path", SKETCHES, ids=lambda path: path.stem)
def test_a_sketch_is_read_and_written_back_equal(path: Path) -> None:
    document = read_spec(str(path))
    assert parse_text(write_yaml(document.data), "again.yaml").data == document.data


@pytest.mark.parametrize("path", SKETCHES, ids=lambda path: path.stem)
def test_a_sketch_lacks_components_and_nothing_else(path: Path, core_only: Registry) -> None:
    with pytest.raises(SpecError) as caught:
        load_members(str(path))
    for problem in caught.value.problems:
        assert problem.message.startswith("unknown "), str(problem)
