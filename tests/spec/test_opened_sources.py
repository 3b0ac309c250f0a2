"""What shows only when a source is opened is told by the check, with its place: an empty choice, a key twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.spec import load_text
from mmflow.spec.text.problems import SpecError

SPEC = """mmflow: 1
name: opened
data:
  train: DATA
encoders: {image: {use: convnet4, of: image, size: 16}}
losses: {spread: {use: uniformity, of: image}}
train: {data: train, epochs: 1, batch_size: 8}
"""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{use: filter, of: {use: shapes, size: 9}, where: {count: {min: 9}}}", "leaves no sample"),
        ("{use: join, of: {use: shapes}, other: {use: table, url: PATH}, by: label}", "twice"),
    ],
)
def test_a_source_that_cannot_be_opened_is_a_mistake_of_the_spec(data: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("label,weight\nred ring,1\nred ring,2\n")
    with pytest.raises(SpecError) as refused:
        load_text(SPEC.replace("DATA", data).replace("PATH", str(tmp_path / "table.csv")))
    assert any(message in str(problem) and ":4:" in str(problem) for problem in refused.value.problems)


def test_sources_made_of_one_that_cannot_be_read_do_not_repeat_its_mistake(tmp_path: Path) -> None:
    data = (
        f"{{use: filter, of: data.cells, where: {{label: red}}}}\n  cells: {{use: table, url: {tmp_path / 'no.csv'}}}"
    )
    with pytest.raises(SpecError) as refused:
        load_text(SPEC.replace("DATA", data))
    assert ["no.csv" in str(problem) and ":5:" in str(problem) for problem in refused.value.problems] == [True]
