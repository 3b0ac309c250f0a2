"""Tables, tar shards and data sets read from front to back: what their samples are, and what is wrong with them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from mmflow_samplers.shuffle import Shuffle
from PIL import Image

from mmflow.data import ColumnRequest, Loader, sample_fields, scan
from mmflow.data.samples import read_field
from mmflow.plugin import ComponentError, SampleError, Source
from mmflow.plugin.targets import Target
from mmflow.spec import SpecError, load_text

TEXT = [ColumnRequest("text", Target("fields", "text"))]


def made(use: str, url: Path | str, **fields: Any) -> Source:
    return Source.accept({"use": use, "url": str(url), "stream": True, **fields})


def scanned(source: Source) -> tuple[list[str], dict[str, str]]:
    """Ids that can be read, and what is said of the others."""
    batches = list(scan(source, {}, TEXT, batch_size=4))
    skipped = {id: reason for batch in batches for id, (reason, _) in batch.skipped.items()}
    return [id for batch in batches for id in batch.ids], skipped


def png(value: int = 7) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]], cut: int | None = None) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(out.getvalue()[:cut])


# --- tables ---------------------------------------------------------------------------------------------


def test_several_tables_are_one_source(tmp_path: Path) -> None:
    (tmp_path / "a0.jsonl").write_text("\n".join(json.dumps({"text": f"a{n}"}) for n in range(3)))
    (tmp_path / "a1.jsonl").write_text("\n".join(json.dumps({"text": f"b{n}"}) for n in range(2)))
    source = made("table", tmp_path / "a{0..1}.jsonl")
    assert scanned(source)[0] == ["a0.jsonl:0", "a0.jsonl:1", "a0.jsonl:2", "a1.jsonl:0", "a1.jsonl:1"]
    assert list(read_field(source, "text", limit=4)) == ["a0", "a1", "a2", "b0"]
    assert sample_fields(source, ["a1.jsonl:1"])["a1.jsonl:1"]["text"] == "b1"
    assert source.open().shards() == ["a0.jsonl", "a1.jsonl"]
    pq.write_table(pa.table({"text": list("abcdef")}), tmp_path / "p0.parquet")
    pq.write_table(pa.table({"text": list("ghi")}), tmp_path / "p1.parquet")
    assert scanned(made("table", tmp_path / "p*.parquet"))[0][5:7] == ["p0.parquet:5", "p1.parquet:0"]


def test_row_groups_of_one_parquet_file_are_its_shards(tmp_path: Path) -> None:
    table = pa.table({"text": [f"t{n}" for n in range(50)], "other": list(range(50))})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=8)
    source = made("table", tmp_path / "t.parquet")
    assert len(source.open().shards()) == 7
    assert scanned(source) == ([str(n) for n in range(50)], {})
    # Row numbers are the ids of the same file with random access: views draw the same.
    plain = Source.accept({"use": "table", "url": str(tmp_path / "t.parquet")})
    assert scanned(plain) == scanned(source)
    assert sample_fields(plain, ["20"]) == sample_fields(source, ["20"])


@pytest.mark.parametrize("policy", ["error", "skip", "quarantine"])
def test_bad_rows_of_a_streamed_table(tmp_path: Path, policy: str) -> None:
    lines = [json.dumps({"id": f"i{n}", "text": f"t{n}"}) for n in range(200)]
    lines[150] = "{no json"
    lines[160] = json.dumps({"id": "i3", "text": "again"})
    lines[170] = json.dumps({"text": "nameless"})
    lines[180] = "[1, 2]"
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    more = {"quarantine": str(tmp_path / "bad.jsonl")} if policy == "quarantine" else {}
    source = made("table", tmp_path / "t.jsonl", bad=policy, **more)
    if policy == "error":
        with pytest.raises(SampleError, match=r"t.jsonl, line 151: no JSON object"):
            scanned(source)
        return
    ids, skipped = scanned(source)
    assert len(ids) == 196
    assert {id: reason.partition(": ")[2].partition(":")[0] for id, reason in skipped.items()} == {
        "150": "no JSON object", "i3#160": "id 'i3' was there before", "170": "column 'id' holds no id",
        "180": "no JSON object",
    }  # fmt: skip
    if policy == "quarantine":
        listed = [json.loads(line)["id"] for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
        assert listed == list(skipped)


def test_bad_lines_of_a_streamed_csv(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('text;n\n"one\nline";1\ntwo;2;3\nthree;3\n')
    ids, skipped = scanned(made("table", tmp_path / "t.csv", bad="skip"))
    assert ids == ["0", "2"]
    assert skipped == {"1": "t.csv, line 4: 3 cells where the header has 2"}
    (tmp_path / "t.csv").write_bytes(b"text\n" + b"good\n" * 5000 + b"\xff\xfe\n" + b"good\n")
    ids, skipped = scanned(made("table", tmp_path / "t.csv", bad="skip"))
    assert 0 < len(ids) <= 5000
    (reason,) = skipped.values()
    assert reason.startswith("t.csv, row ")
    assert "cannot be read: 'utf-8'" in reason


def test_a_broken_parquet_file_among_others(tmp_path: Path) -> None:
    for n in range(3):
        pq.write_table(pa.table({"text": [f"t{n}"] * 6}), tmp_path / f"p{n}.parquet")
    (tmp_path / "p1.parquet").write_bytes(b"PAR1 nothing")
    ids, skipped = scanned(made("table", tmp_path / "p{0..3}.parquet", bad="skip"))
    assert len(ids) == 12
    assert list(skipped) == ["p1.parquet:0", "p3.parquet:0"]
    assert "p1.parquet is no Parquet file" in skipped["p1.parquet:0"]
    assert skipped["p3.parquet:0"].endswith("no file 'p3.parquet'")


def test_classes_of_a_stream_must_be_declared(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\nx,cat\ny,dog\n")
    with pytest.raises(ComponentError, match="classes, whose names only a pass over all data would tell") as caught:
        made("table", tmp_path / "t.csv").fields()
    assert "columns: {label: {column: label, names: [...]}}" in caught.value.hint
    named = made("table", tmp_path / "t.csv", columns={"text": "text", "label": {"names": ["cat", "dog"]}})
    assert named.fields()["label"].names == ("cat", "dog")


def test_a_table_that_is_no_table_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match=r"no file 'x\.csv'"):
        made("table", tmp_path / "x.csv").fields()
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(ComponentError, match="not a table by its name"):
        made("table", tmp_path / "x.txt").fields()
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(ComponentError, match="it is empty"):
        made("table", tmp_path / "x.csv").fields()
    (tmp_path / "x.csv").write_text("text\n")
    with pytest.raises(ComponentError, match="no rows that can be read"):
        made("table", tmp_path / "x.csv").fields()
    (tmp_path / "x.csv").write_text("text\nhello\n")
    with pytest.raises(ComponentError, match="has no column 'caption'"):
        made("table", tmp_path / "x.csv", columns={"caption": "caption"}).fields()


# --- tar shards -----------------------------------------------------------------------------------------


def write_good(path: Path, first: int, count: int = 5) -> None:
    names = [f"{n:03}" for n in range(first, first + count)]
    write_tar(path, [(f"{n}.{e}", d) for n in names for e, d in (("txt", f"no. {n}".encode()), ("png", png()))])


SHARD = [ColumnRequest("text", Target("fields", "caption")), ColumnRequest("image", Target("fields", "image"))]


def test_damaged_shards_and_images_of_a_stream(tmp_path: Path) -> None:
    write_good(tmp_path / "0.tar", 0)
    write_tar(tmp_path / "1.tar", [("100.txt", b"x"), ("100.png", png()), ("101.txt", b"y"), ("101.png", png() * 50)],
              cut=4096)  # fmt: skip
    write_tar(tmp_path / "2.tar", [("200.txt", b"x"), ("200.png", b"no image"), ("../201.txt", b"out"),
                                   ("202.txt", b"only words")])  # fmt: skip
    (tmp_path / "3.tar").write_bytes(b"no tar" * 500)
    source = made("webdataset", tmp_path / "{0..4}.tar", bad="skip")
    batches = list(scan(source, {}, SHARD, batch_size=50))
    assert [id for batch in batches for id in batch.ids] == [*(f"{n:03}" for n in range(5)), "100", "202"]
    said = {id: reason for batch in batches for id, (reason, _) in batch.skipped.items()}
    assert list(said) == ["101", "200", "../201", "3.tar", "4.tar"]
    assert "1.tar ends in the middle of '101.png'" in said["101"]
    assert "2.tar, sample '200', column 'image': 200.png: not an image" in said["200"]
    assert "leaves the archive" in said["../201"]
    assert "3.tar is no readable tar file" in said["3.tar"]
    assert "no file '4.tar'" in said["4.tar"]
    with pytest.raises(SampleError, match=r"1\.tar ends in the middle of '101.png'"):
        list(scan(made("webdataset", tmp_path / "{0..4}.tar"), {}, SHARD, batch_size=3))
    with Loader(source, {}, SHARD, sampler=Shuffle(drop_last=False), batch_size=20, seed=0) as loader:
        assert sum(batch.size for batch in loader.epoch(0)) == 7
        assert set(loader.skipped) == set(said)


def test_a_stream_of_shards_has_the_fields_of_its_first_samples(tmp_path: Path) -> None:
    sidecar = json.dumps({"caption": "in json", "age": 3, "width": 2.5}).encode()
    write_tar(tmp_path / "0.tar", [("a.json", sidecar), ("a.png", png(9)), ("b.json", b"{broken"), ("b.png", png())])
    source = made("webdataset", tmp_path / "0.tar", bad="skip")
    assert {name: type_.modality for name, type_ in source.fields().items()} == {
        "id": "id", "image": "image", "caption": "text", "age": "number", "width": "number",
    }  # fmt: skip
    assert sample_fields(source, ["a"], ["age", "caption"]) == {"a": {"id": "a", "age": 3.0, "caption": "in json"}}
    (batch,) = scan(source, {}, [ColumnRequest("age", Target("fields", "age"))], batch_size=9)
    assert (batch.ids, list(batch.skipped)) == (["a"], ["b"])
    # What is not asked for is not parsed.
    (batch,) = scan(source, {}, [ColumnRequest("image", Target("fields", "image"))], batch_size=9)
    assert batch.ids == ["a", "b"]


# --- data sets of the hub's library ---------------------------------------------------------------------


def test_a_data_set_of_the_hub_is_read_without_a_download(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from mmflow_sources.hub import HfDataset
    from mmflow_sources.shards.hub import HubShards
    from mmflow_sources.shards.reader import StreamReader

    for n in range(3):
        rows = pa.table({"text": [f"t{n}{k}" for k in range(4)], "n": list(range(4))})
        pq.write_table(rows, tmp_path / f"part-{n}.parquet")
    stream = datasets.load_dataset(
        "parquet", data_files={"train": str(tmp_path / "*.parquet")}, split="train", streaming=True
    )
    reader = StreamReader(HfDataset(path="x", stream=True), HubShards(stream), Source.accept(
        {"use": "table", "url": "x.csv"}).folder("."), name="x")  # fmt: skip
    assert len(reader.shards()) == 3
    assert {name: type_.modality for name, type_ in reader.types.items()} == {"id": "id", "text": "text", "n": "number"}
    found = [(id, reader.decode(id, raw, ("text",))) for id, raw in reader.shard(1, ("text",))]
    assert found == [(f"1:{k}", {"id": f"1:{k}", "text": f"t1{k}"}) for k in range(4)]


# --- in a spec ------------------------------------------------------------------------------------------

SPEC = """
mmflow: 1
name: streamed
data:
  train: {{use: table, url: "{folder}/t{{0..3}}.jsonl", stream: {stream}}}
encoders:
  one: {{use: text_transformer, of: text, width: 16, depth: 1, heads: 2, length: 8}}
  two: {{use: text_transformer, of: text, width: 16, depth: 1, heads: 2, length: 8}}
losses:
  align: {{use: infonce, of: [one, two]}}
train: {{data: train, batch_size: 8, {train}}}
"""


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    for n in range(4):
        rows = [{"text": f"word{n} word{k}"} for k in range(20)]
        (tmp_path / f"t{n}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def problems(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        load_text(text)
    return "\n".join(str(problem) for problem in caught.value.problems)


def test_what_does_not_go_with_a_stream_is_said_at_check_time(tables: Path) -> None:
    said = problems(SPEC.format(folder=tables, stream="true", train="epochs: 2"))
    assert "batches an epoch of a streamed source has is not known" in said
    assert "stream: {samples: N}" in said
    said = problems(SPEC.format(folder=tables, stream="true", train="steps: 2, sampler: {use: balanced, by: text}"))
    assert "the sampler balanced needs random access to samples, which source 'table'" in said
    assert "use `shuffle` or `sequential`" in said
    inside = SPEC.format(folder=tables, stream="true", train="steps: 2")
    inside = inside.replace("{use: table,", "{use: subset, size: 4, of: {use: table,").replace("true}", "true}}")
    assert "a source inside a source needs random access" in problems(inside)
    wrapped = SPEC.format(folder=tables, stream="true", train="steps: 2")
    wrapped = wrapped.replace("{use: table,", "{use: noisy, pairs: {text: 0.1}, of: {use: table,").replace(
        "true}", "true}}")  # fmt: skip
    assert "a source inside a source needs random access" in problems(wrapped)
    said = problems(SPEC.format(folder=tables, stream="{partitions: 0}", train="steps: 2"))
    assert "a number at least 1" in said


def test_a_stream_trains(tables: Path, tmp_path: Path) -> None:
    from mmflow.flow.run import RunOptions, run_spec

    for name, stream, train in (("steps", "{partitions: 3}", "steps: 17"), ("epochs", "{samples: 80}", "epochs: 2")):
        spec = load_text(SPEC.format(folder=tables, stream=stream, train=train))
        options = RunOptions(store=str(tmp_path / name), engine="local", device="cpu")
        outcome = run_spec(spec, options)
        assert outcome.exit_code == 0, outcome.outcome.notes
        (summary,) = (tmp_path / name).rglob("train.json")
        found = json.loads(summary.read_text())
        assert found["steps"] == (17 if name == "steps" else 20)
        assert found["samples"] == (None if name == "steps" else 80)
        assert outcome.report is not None


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_file_that_lacks_a_column_of_the_others_is_bad(tmp_path: Path, format: str) -> None:
    for number, name in enumerate(("text", "txt")):
        table = pa.table({name: ["a", "b"], "n": [1, 2]})
        path = tmp_path / f"{number}.{format}"
        pq.write_table(table, path) if format == "parquet" else pacsv.write_csv(table, path)
    fields = {"use": "table", "url": str(tmp_path / f"{{0..1}}.{format}"), "stream": True, "columns": {"text": "text"}}
    requests = [ColumnRequest("text", Target("fields", "text"))]
    with pytest.raises(SampleError, match=rf"1\.{format}.*it has no column 'text' among txt, n"):
        list(scan(Source.accept(fields), {}, requests, batch_size=4))
    skipping = Source.accept({**fields, "bad": "skip"})
    assert [i for batch in scan(skipping, {}, requests, batch_size=4) for i in batch.ids] == [
        f"0.{format}:0", f"0.{format}:1"
    ]  # fmt: skip
