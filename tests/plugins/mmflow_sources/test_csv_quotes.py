"""CSV as spreadsheets and hands write it: quotes that swallow rows are named, blank lines are none."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_sources.rows.csv_lines import CsvLines
from mmflow_sources.table import Table

from mmflow.plugin import ComponentError, SkippedSample

ROWS = [["id", "caption", "n"], *([f"r{n}", f"words {n}", str(n)] for n in range(12))]


def text(quoting: int = csv.QUOTE_MINIMAL, rows: Any = ROWS) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=quoting, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()


def table(tmp_path: Path, content: str, **fields: Any) -> Table:
    (tmp_path / "t.csv").write_text(content)
    return Table.model_validate({"url": str(tmp_path / "t.csv"), **fields})


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(
        st.lists(st.text(alphabet='ab",;\n \t', max_size=6), min_size=2, max_size=2), min_size=1, max_size=8
    ),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_text_that_was_written_well_is_read_without_a_fault(cells: list[list[str]], quoting: int) -> None:
    lines = CsvLines(io.StringIO(text(quoting, [["x", "y"], *cells]), newline=""), "csv")
    found = list(lines.records())
    assert [record for record, _, _ in found] == cells
    assert not any(fault for _, _, fault in found)


@pytest.mark.parametrize("line", [2, 5, 13])
@pytest.mark.parametrize("stream", [False, True])
def test_a_quote_that_is_never_closed_is_named_with_its_line(tmp_path: Path, line: int, stream: bool) -> None:
    lines = text().splitlines()
    lines[line - 1] = lines[line - 1].replace(",words", ',"words')
    content = "\n".join(lines) + "\n"
    with pytest.raises(ComponentError, match=f"a quote opens in line {line} and is never closed"):
        table(tmp_path, content, stream=stream).open()
    kept = table(tmp_path, content, bad="skip").open()
    # The rows before it, and one that stands for the rest.
    assert len(kept) == line - 1
    with pytest.raises(SkippedSample):
        kept[line - 2]


@pytest.mark.parametrize(("first", "last"), [(3, 6), (2, 12)])
def test_a_quote_that_closes_lines_later_within_a_cell_is_named(tmp_path: Path, first: int, last: int) -> None:
    lines = text().splitlines()
    for line in (first, last):
        lines[line - 1] = lines[line - 1].replace(",words", ',"words')
    with pytest.raises(ComponentError, match=f"a quote opens in line {first} and closes in line {last}"):
        table(tmp_path, "\n".join(lines)).open()


def test_quotes_inside_a_cell_and_lines_inside_quotes_are_text(tmp_path: Path) -> None:
    source = table(tmp_path, 'caption,n\na 5" pipe,1\n"two\nlines, ""both""",2\nend",3\n')
    reader = source.open()
    assert [reader[n]["caption"] for n in range(3)] == ['a 5" pipe', 'two\nlines, "both"', 'end"']


@pytest.mark.parametrize("before", ["\n", "\r\n\r\n", " \n\t\n"])
@pytest.mark.parametrize("stream", [False, True])
def test_blank_lines_before_the_header_and_between_rows_are_none(tmp_path: Path, before: str, stream: bool) -> None:
    content = before + text().replace("\n", "\n\n", 3)
    source = table(tmp_path, content, stream=stream)
    reader = source.open()
    if stream:
        assert [id for id, _ in reader.shard(0, ("caption",))] == [f"r{n}" for n in range(12)]
    else:
        assert [reader.id(n) for n in range(len(reader))] == [f"r{n}" for n in range(12)]
        assert reader.read(0)["caption"] == "words 0"


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_a_header_is_empty(tmp_path: Path, content: str) -> None:
    with pytest.raises(ComponentError, match="it is empty"):
        table(tmp_path, content).open()


def test_a_name_that_stands_twice_is_refused_in_every_format(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "t.csv").write_text("a,b,a\n1,2,3\n")
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        for stream in (False, True):
            with pytest.raises(ComponentError, match="two columns named 'a'"):
                Table(url=str(tmp_path / name), stream=stream).open()
    (tmp_path / "t.jsonl").write_text('{"a": 1, "b": 2}\n{"a": 1, "a": 3}\n')
    with pytest.raises(ComponentError, match="line 2: no JSON object: 'a' stands there twice"):
        Table(url=str(tmp_path / "t.jsonl")).open()
