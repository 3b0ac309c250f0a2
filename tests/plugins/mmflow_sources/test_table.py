"""The source `table` over several filesystems and formats, and what it says of bad rows."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mmflow_sources.rows.parquet import ParquetRows
from mmflow_sources.table import Table
from PIL import Image

from mmflow.data import ColumnRequest, read_field, sample_fields, scan
from mmflow.identity.keys import Keys
from mmflow.plugin import ComponentError, SampleError, Source
from mmflow.plugin.targets import Target
from mmflow.spec import load_text

ROWS = 12


def image(number: int) -> np.ndarray:
    generator = np.random.default_rng(number)
    return generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)


def caption(number: int) -> str:
    return f'image, "{number}"' if number else "line one\nline two"


def write_png(url: str, pixels: np.ndarray) -> None:
    with fsspec.open(url, "wb") as file:
        Image.fromarray(pixels).save(file, format="PNG")


def write_text(url: str, text: str) -> None:
    with fsspec.open(url, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def csv_text() -> str:
    lines = ["id,file,text,label,score,vector"]
    for n in range(ROWS):
        quoted = '"' + caption(n).replace('"', '""') + '"'
        lines.append(f'row{n},images/{n}.png,{quoted},{["cat", "dog", "ant"][n % 3]},{n / 2},"[{n}, 0.5]"')
    return "\n".join(lines) + "\n"


def records() -> list[dict[str, object]]:
    return [
        {
            "id": f"row{n}", "file": f"images/{n}.png", "text": caption(n), "label": ["cat", "dog", "ant"][n % 3],
            "score": n / 2, "vector": [float(n), 0.5],
        }
        for n in range(ROWS)
    ]  # fmt: skip


def write_table(base: str, format: str) -> str:
    """The table with its images under `base`; returns its URL."""
    for n in range(ROWS):
        write_png(f"{base}/images/{n}.png", image(n))
    url = f"{base}/rows.{format}"
    if format == "csv":
        write_text(url, csv_text())
    elif format == "jsonl":
        write_text(url, "\n".join(json.dumps(row) for row in records()))
    else:
        with fsspec.open(url, "wb") as file:
            pq.write_table(pa.Table.from_pylist(records()), file, row_group_size=5)
    return url


@pytest.fixture(params=["disk", "memory", "zip"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Writes the table in a format to a filesystem and gives its URL."""

    def write(format: str) -> str:
        if request.param == "memory":
            return write_table(f"memory://{tmp_path.name}", format)
        (tmp_path / "images").mkdir()
        url = write_table(str(tmp_path), format)
        if request.param == "disk":
            return url
        archive = tmp_path / "all.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for path in [tmp_path / f"rows.{format}", *sorted((tmp_path / "images").iterdir())]:
                file.write(path, "data/" + path.relative_to(tmp_path).as_posix())
        return f"zip://data/rows.{format}::{archive}"

    return write


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_reads_the_same_from_every_format_and_filesystem(place: Callable[[str], str], format: str) -> None:
    source = Table.model_validate(
        {"url": place(format), "columns": {"image": "file", "caption": "text", "label": "label", "score": "score",
                                           "vector": "vector"}}
    )  # fmt: skip
    fields = source.fields()
    assert {name: type_.modality for name, type_ in fields.items()} == {
        "id": "id", "image": "image", "caption": "text", "label": "label", "score": "number", "vector": "vector"
    }  # fmt: skip
    assert fields["label"].names == ("ant", "cat", "dog")
    assert fields["vector"].size == (2,)
    reader = source.open()
    assert len(reader) == ROWS
    for n in (7, 0, 11, 3):
        sample = reader[n]
        assert sample["id"] == reader.id(n) == f"row{n}"
        assert np.array_equal(sample["image"], image(n))
        assert sample["caption"] == caption(n)
        assert fields["label"].names[sample["label"]] == ["cat", "dog", "ant"][n % 3]
        assert sample["score"] == n / 2
        assert sample["vector"].tolist() == [n, 0.5]


def test_same_content_has_one_fingerprint_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    on_disk = Table(url=write_table(str(tmp_path), "csv"))
    in_memory = Table(url=write_table(f"memory://{tmp_path.name}", "csv"))
    before = on_disk.fingerprint()
    assert before == in_memory.fingerprint()
    keys = [
        Keys(load_text(f"mmflow: 1\nname: one\ndata: {{rows: {{use: table, url: '{source.url}'}}}}\n")).data(
            Target("data", "rows")
        )
        for source in (on_disk, in_memory)
    ]
    assert keys[0] == keys[1]
    write_png(str(tmp_path / "images/3.png"), image(99))
    assert on_disk.fingerprint() != before


def rows_of(tmp_path: Path, text: str, **fields: object) -> Table:
    (tmp_path / "t.csv").write_text(text)
    return Table.model_validate({"url": str(tmp_path / "t.csv"), **fields})


REQUESTS = [ColumnRequest("image", Target("fields", "image")), ColumnRequest("n", Target("fields", "n"))]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Ten rows of images, six of them bad in ways of their own."""
    (tmp_path / "inside").mkdir()
    write_png(str(tmp_path / "secret.png"), image(99))
    tmp_path = tmp_path / "inside"
    for n in range(10):
        write_png(str(tmp_path / f"{n}.png"), image(n))
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").write_bytes(b"")
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "4.png").write_text("this is no image")
    Image.new("L", (3000, 3000)).save(tmp_path / "5.png")
    names = [f"{n}.png" for n in range(10)]
    names[6] = "../secret.png"
    (tmp_path / "t.csv").write_text("image,n\n" + "\n".join(f"{name},{n}" for n, name in enumerate(names)))
    return tmp_path


def test_skip_leaves_out_what_cannot_be_read_and_counts_it(mixed: Path) -> None:
    quarantine = mixed / "left_out.jsonl"
    source = Table.model_validate(
        {"url": str(mixed / "t.csv"), "bad": "quarantine", "quarantine": str(quarantine), "max_pixels": 1_000_000}
    )
    batches = list(scan(source, {}, REQUESTS, batch_size=5))
    assert [batch.ids for batch in batches] == [["0"], ["7", "8", "9"]]
    assert [batch.columns["n"].values.tolist() for batch in batches] == [[0.0], [7.0, 8.0, 9.0]]
    skipped = {id: reason for batch in batches for id, (reason, _) in batch.skipped.items()}
    assert list(skipped) == ["1", "2", "3", "4", "5", "6"]
    for id, word in {"1": "no file", "2": "empty", "3": "truncated", "4": "not an image", "5": "max_pixels",
                     "6": "'../secret.png' leaves /"}.items():  # fmt: skip
        assert word in skipped[id]
        assert f"t.csv, line {int(id) + 2}, column 'image'" in skipped[id]
    listed = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert [row["id"] for row in listed] == list(skipped)


@pytest.mark.parametrize("workers", [0, 1])
def test_error_policy_names_sample_source_line_and_file_in_one_message(mixed: Path, workers: int) -> None:
    source = Table(url=str(mixed / "t.csv"))
    with pytest.raises(SampleError) as caught:
        list(scan(source, {}, REQUESTS, batch_size=5, workers=workers))
    message = str(caught.value)
    for part in ("'1'", "'table'", "t.csv", "line 3", "column 'image'", "'1.png'", str(mixed)):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "fields", "words"),
    [
        ("", {}, ["empty"]),
        ("a,b\n", {}, ["no rows"]),
        ("a,a\n1,2\n", {}, ["two columns", "'a'"]),
        ("a,b\n1,2\n3\n", {}, ["line 3", "1 cells", "2"]),
        ("a,b\n1,2\n", {"columns": {"x": "c"}}, ["no column 'c'"]),
        ("id,b\n1,2\n1,3\n", {}, ["line 3", "'1'", "line 2"]),
        ("id,b\n1,2\n,3\n", {}, ["line 3", "no id"]),
        ("a,b\n1,2\n", {"id": "key"}, ["'key'"]),
    ],
)
def test_a_malformed_table_is_one_message(
    tmp_path: Path, text: str, fields: dict[str, object], words: list[str]
) -> None:
    source = rows_of(tmp_path, text, **fields)
    with pytest.raises(ComponentError) as caught:
        source.fields()
    for word in words:
        assert word in str(caught.value)


def test_missing_tables_and_unknown_protocols_are_one_message(tmp_path: Path) -> None:
    for url in (str(tmp_path / "none.csv"), "memory://nowhere/none.csv", "nosuch://a/none.csv"):
        with pytest.raises(ComponentError, match=r"no file 'none\.csv'|nosuch"):
            Table(url=url).fields()
    (tmp_path / "t.xlsx").write_text("x")
    with pytest.raises(ComponentError, match="not a table by its name"):
        Table(url=str(tmp_path / "t.xlsx")).fields()


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("photos/a.jpg", "; did you mean 'photos/a.JPG'?"),
        ("photos\\\\a.JPG", "; did you mean 'photos/a.JPG'?"),
        ("photos/b.jpg", "; did you mean 'photos/b.png'?"),
        ("Photos/B.png", "; did you mean 'photos/b.png'?"),
        ("C:\\\\photos\\\\a.JPG", "; paths are written with / and begin in `root`"),
        ("photos/c.jpg", ""),
    ],
)
def test_of_a_missing_file_the_one_that_is_meant_is_told(tmp_path: Path, cell: str, hint: str) -> None:
    (tmp_path / "photos").mkdir()
    write_png(f"{tmp_path}/photos/a.JPG", image(0))
    write_png(f"{tmp_path}/photos/b.png", image(1))
    write_text(f"{tmp_path}/t.jsonl", f'{{"file": "{cell}"}}\n')
    with pytest.raises(SampleError) as caught:
        list(read_field(Table(url=f"{tmp_path}/t.jsonl"), "file"))
    assert str(caught.value).endswith(f"in {tmp_path}{hint}")


def test_a_table_of_another_encoding_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n", encoding="utf-16")
    with pytest.raises(ComponentError, match=r"t\.csv is not UTF-8 text: .* at byte 0") as caught:
        Table(url=f"{tmp_path}/t.csv").fields()
    assert caught.value.hint == "save the file as UTF-8"


@pytest.mark.parametrize("protocol", ["zip", "tar"])
def test_an_archive_that_is_none_is_one_message(tmp_path: Path, protocol: str) -> None:
    (tmp_path / "photos.zip").write_text("no archive")
    with pytest.raises(ComponentError, match=rf"{protocol}://.*photos\.zip"):
        Table(url=f"{protocol}://train.csv::{tmp_path}/photos.zip").fields()


def test_many_tables_without_a_stream_say_how_they_are_read(tmp_path: Path) -> None:
    for name in ("a*.csv", "a{0..1}.csv"):
        with pytest.raises(ComponentError) as caught:
            Table(url=str(tmp_path / name)).fields()
        assert "stream: true" in caught.value.expected


def test_wrong_cells_say_which(tmp_path: Path) -> None:
    text = 'v,label,n\n"[1, 2]",a,1\n"[1, NaN]",b,2\n"[1, 2, 3]",a,x\n'
    source = rows_of(
        tmp_path, text, columns={"v": {"column": "v", "modality": "vector"}, "n": {"modality": "number"},
                                 "label": {"modality": "label", "names": ["a", "c"]}}
    )  # fmt: skip
    reader = source.open()
    for index, field, word in [(1, "v", "NaN"), (2, "v", "3"), (1, "label", "'b'"), (2, "n", "'x'")]:
        with pytest.raises(SampleError, match=f"line {index + 2}, column '{field}'.*{word}"):
            reader.read(index, (field,))  # type: ignore[attr-defined]


def test_empty_cells_are_absent_unless_required(tmp_path: Path) -> None:
    text = "image,caption,n\n,hello,1\n0.png,,\n"
    write_png(str(tmp_path / "0.png"), image(0))
    source = rows_of(tmp_path, text)
    requests = [ColumnRequest(name, Target("fields", name)) for name in ("image", "caption", "n")]
    (batch,) = scan(source, {}, requests, batch_size=2)
    present = {name: column.present for name, column in batch.columns.items()}
    assert {name: p.tolist() for name, p in present.items() if p is not None} == {
        "image": [False, True], "caption": [True, False], "n": [True, False]
    }  # fmt: skip
    assert float(batch.columns["image"].values[0].abs().sum()) == 0
    assert batch.columns["caption"].values == ["hello", None]
    required = rows_of(tmp_path, text, columns={"caption": {"required": True}})
    with pytest.raises(SampleError, match=r"line 3.*empty"):
        required.open()[1]


def test_fields_by_id_and_limited_reading(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    source: Source = Table(url=write_table(str(tmp_path), "parquet"))
    found = sample_fields(source, ["row9", "row1"], ("text",))
    assert [found[id]["text"] for id in found] == [caption(9), caption(1)]
    assert list(read_field(source, "score", limit=3)) == [0.0, 0.5, 1.0]


def test_several_captions_are_a_group_axis(tmp_path: Path) -> None:
    rows = [{"captions": ["a", "b"]}, {"captions": ["c"]}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = Table.model_validate({"url": str(tmp_path / "t.jsonl"), "columns": {"captions": {"axis": "caption"}}})
    assert source.fields()["captions"].axes == ("sample", "caption")
    (batch,) = scan(source, {}, [ColumnRequest("c", Target("fields", "captions"))], batch_size=2)
    assert batch.columns["c"].values == [["a", "b"], ["c", None]]
    present = batch.columns["c"].present
    assert present is not None
    assert present.tolist() == [[True, True], [True, False]]


def test_the_columns_of_a_large_row_group_do_not_push_each_other_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table({"a": range(8), "b": range(8)}), path, row_group_size=4)
    monkeypatch.setattr(ParquetRows, "KEPT", 1)
    read: list[tuple[int, tuple[str, ...]]] = []
    plain = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, group: int, columns: list[str], **more: object) -> pa.Table:
        read.append((group, tuple(columns)))
        return plain(self, group, columns=columns, **more)  # type: ignore[arg-type]

    reader = Table(url=str(path)).open()
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert [reader[index]["b"] for index in range(8)] == list(range(8))
    assert sorted(read) == [(0, ("a",)), (0, ("b",)), (1, ("a",)), (1, ("b",))]
