"""Whole numbers stay exact from the file to the batch: equal where they are equal, different where they differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_sources.table import Table

from mmflow.data import ColumnRequest, scan
from mmflow.plugin import SampleError, Source
from mmflow.plugin.targets import Target

BIG = 2**53
NUMBERS = [BIG, BIG + 1, BIG + 2, 2**63 - 1, -(2**63), 2**24 + 1, 7]


def csv(folder: Path, numbers: list[int]) -> Path:
    (folder / "t.csv").write_text("".join(["n,word\n", *(f"{n},w{place}\n" for place, n in enumerate(numbers))]))
    return folder / "t.csv"


def jsonl(folder: Path, numbers: list[int]) -> Path:
    rows = [json.dumps({"n": n, "word": f"w{place}"}) for place, n in enumerate(numbers)]
    (folder / "t.jsonl").write_text("\n".join(rows))
    return folder / "t.jsonl"


def parquet(folder: Path, numbers: list[int]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = [f"w{place}" for place in range(len(numbers))]
    pq.write_table(pa.table({"n": pa.array(numbers, pa.int64()), "word": words}), folder / "t.parquet")
    return folder / "t.parquet"


def arrays(folder: Path, numbers: list[int]) -> Path:
    np.savez(folder / "t.npz", n=np.array(numbers, np.int64), word=np.array([f"w{n}" for n in range(len(numbers))]))
    return folder / "t.npz"


WRITERS = pytest.mark.parametrize("write", [csv, jsonl, parquet, arrays])
Write = Callable[[Path, list[int]], Path]


def declared(path: Path) -> dict[str, Any]:
    return {"use": "arrays" if path.suffix == ".npz" else "table", "url": str(path)}


@WRITERS
def test_a_column_of_large_numbers_reaches_the_batch_exactly(tmp_path: Path, write: Write) -> None:
    source = Source.accept(declared(write(tmp_path, NUMBERS)))
    assert source.fields()["n"].dtype == "int64"
    (batch,) = scan(source, {}, [ColumnRequest("n", Target("fields", "n"))], batch_size=len(NUMBERS))
    values = batch.columns["n"].values
    assert values.dtype == torch.int64
    assert values.tolist() == NUMBERS


@WRITERS
def test_small_numbers_are_floats_as_before(tmp_path: Path, write: Write) -> None:
    source = Source.accept(declared(write(tmp_path, [1, -2, 2**24])))
    (batch,) = scan(source, {}, [ColumnRequest("n", Target("fields", "n"))], batch_size=3)
    assert batch.columns["n"].values.dtype == torch.float32
    assert batch.columns["n"].values.tolist() == [1, -2, 2**24]


@WRITERS
@pytest.mark.parametrize("number", [BIG, BIG + 1, 2**63 - 1])
def test_filter_finds_that_very_number(tmp_path: Path, write: Write, number: int) -> None:
    of = declared(write(tmp_path, NUMBERS))
    for condition in (number, [number, 1], {"min": number, "max": number}):
        reader = Source.accept({"use": "filter", "of": of, "where": {"n": condition}}).open()
        assert [reader[place]["n"] for place in range(len(reader))] == [number]


@WRITERS
def test_join_meets_that_very_number(tmp_path: Path, write: Write) -> None:
    (tmp_path / "one").mkdir()
    mine = declared(write(tmp_path / "one", [BIG + 1, BIG + 3]))
    other = {**declared(csv(tmp_path, [BIG, BIG + 1, BIG + 2])), "columns": {"n": "n", "found": "word"}}
    joined = Source.accept({"use": "join", "of": mine, "other": other, "by": "n"}).open()
    assert [joined[place]["found"] for place in range(2)] == ["w1", None]


def test_numbers_beyond_64_bits_are_read_as_text(tmp_path: Path) -> None:
    for path in (csv(tmp_path, [10**20, 10**20 + 1]), jsonl(tmp_path, [10**20, 10**20 + 1])):
        source = Table(url=str(path))
        assert source.fields()["n"].modality == "text"
        assert [source.open()[place]["n"] for place in range(2)] == [str(10**20), str(10**20 + 1)]
    source = Table.model_validate({"url": str(path), "columns": {"n": {"modality": "number"}}})
    with pytest.raises(SampleError, match="does not fit 64 bits: read it as text"):
        source.open()[0]


@pytest.mark.parametrize("cells", [["1", "2.5"], ["1", "1e3"], ["3", "", "nan"]])
def test_one_fraction_makes_a_column_of_floats(tmp_path: Path, cells: list[str]) -> None:
    (tmp_path / "t.csv").write_text("".join(["n,w\n", *(f"{cell},x\n" for cell in cells)]))
    reader = Table(url=str(tmp_path / "t.csv")).open()
    values = [reader[place]["n"] for place in range(len(cells))]
    assert values == [None if cell in ("", "nan") else float(cell) for cell in cells]
    assert all(value is None or isinstance(value, float) for value in values)


def test_a_sample_stays_in_its_part_where_numbers_were_floats(tmp_path: Path) -> None:
    path = csv(tmp_path, list(range(200)))
    whole = {"use": "split", "of": declared(path), "part": "test", "by": "n"}
    (tmp_path / "f").mkdir()
    (tmp_path / "f/t.csv").write_text("".join(["n,word\n", *(f"{n}.0,w{n}\n" for n in range(200))]))
    parts = [Source.accept({**whole, "of": of}).open() for of in (declared(path), declared(tmp_path / "f/t.csv"))]
    one, other = ([reader[place]["n"] for place in range(len(reader))] for reader in parts)
    assert one == other
    assert 20 < len(one) < 60
