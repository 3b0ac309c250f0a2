"""The architecture page is true: each step of a sample's way names a file and a function that exist, each file once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STEPS = re.findall(r"(mmflow/\S+\.py)\s+(\w+)", PAGE.partition("```text")[2].partition("```")[0])


def test_each_step_names_a_function_that_is_there() -> None:
    assert len(STEPS) > 20
    for file, name in STEPS:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert name in defined, f"{file} has no {name}"


def test_the_walk_enters_each_file_once() -> None:
    files = [file for file, _ in STEPS]
    assert len(set(files)) == len(files)


def test_every_room_is_on_the_page() -> None:
    rooms = [path.name for path in (ROOT / "mmflow").iterdir() if (path / "__init__.py").exists()]
    assert not [room for room in rooms if f"(../mmflow/{room})" not in PAGE]


def test_other_files_that_it_names_are_there() -> None:
    for name in re.findall(r"`([a-z]+/[a-z_/]+\.py)`", PAGE):
        assert (ROOT / "mmflow" / name).exists(), name


def test_each_promise_of_security_names_a_test_that_is_there() -> None:
    named = re.findall(r"`(tests/\S+\.py)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    assert len(named) > 5
    assert not [name for name in named if not (ROOT / name).exists()]
