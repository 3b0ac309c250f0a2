"""Reference numbers of published implementations, through our components (`MMFLOW_ORACLES` names another folder)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmflow.testing import Arrays
from mmflow.testing.arrays import disagreements
from tests.oracles.rows import VARIABLE, Row, root
from tests.oracles.table import TABLE

CALLS = [(row, file) for row in TABLE for file in row.files(root())]


@pytest.mark.skipif(not CALLS and not os.environ.get(VARIABLE), reason="no reference numbers here")
def test_the_folder_has_reference_numbers() -> None:
    assert root().is_dir(), f"{VARIABLE} names {root()}, which is no folder"
    assert CALLS, f"no file in {root()} belongs to a row of the table"


@pytest.mark.parametrize(
    ("row", "file"), [pytest.param(*call, id=f"{call[0].folder}/{call[1].stem}") for call in CALLS]
)
def test_agrees(row: Row, file: Path) -> None:
    found = list(row.run(Arrays(file)))
    assert found, "nothing was compared"
    assert disagreements(found) == []
