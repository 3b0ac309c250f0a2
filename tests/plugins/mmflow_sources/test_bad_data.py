"""Every corruption, planted in 1 % of 2,000 samples, behaves as its source's policy says, and the report shows it."""

from __future__ import annotations

import io
import json
import re
import struct
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mmflow_samplers.shuffle import Shuffle
from PIL import Image

from mmflow.data import ColumnRequest, Loader
from mmflow.plugin import ComponentError, SampleError, Source
from mmflow.plugin.targets import Target

pytestmark = pytest.mark.slow

COUNT, BAD = 2000, 20
PLACES = tuple(range(57, COUNT, 100))
"""Where the bad samples stand: 57, 157, ..., 1957."""


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number % 251, dtype=np.uint8)).save(out, format="PNG")
    return out.getvalue()


def bomb(side: int = 100_000) -> bytes:
    """A small PNG file of `side` x `side` black pixels, one bit each: 10 GB where it is decoded as RGB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side // 8 + 1) * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def sound() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    return out.getvalue()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good images, `0.png` to `249.png`, shared by all samples, and bad ones beside them."""
    base = tmp_path_factory.mktemp("bad")
    (base / "in").mkdir()
    for number in range(250):
        (base / f"in/{number}.png").write_bytes(png(number))
    (base / "secret.png").write_bytes(png(1))
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(noise, format="PNG")
    (base / "in/cut.png").write_bytes(noise.getvalue()[:700])
    (base / "in/sound.png").write_bytes(sound())
    (base / "in/bomb.png").write_bytes(bomb())
    return base


def rows(bad: Mapping[str, Any]) -> list[dict[str, Any]]:
    """2,000 samples, `bad` merged into those at `PLACES`."""
    good = [
        {"id": f"s{n}", "image": f"{n % 250}.png", "caption": f"image {n}", "vector": [n / 8, -1.0], "label": n % 3}
        for n in range(COUNT)
    ]
    return [{**row, **bad} if n in PLACES else row for n, row in enumerate(good)]


def table(bad: Mapping[str, Any]) -> Callable[[Path, Path], dict[str, Any]]:
    def write(images: Path, own: Path) -> dict[str, Any]:
        (own / "rows.jsonl").write_text("\n".join(map(json.dumps, rows(bad))))
        return {"use": "table", "url": str(own / "rows.jsonl"), "root": str(images / "in")}

    return write


def required_caption(images: Path, own: Path) -> dict[str, Any]:
    declared = table({"caption": " "})(images, own)
    return {**declared, "columns": {"caption": {"required": True}, "image": "image"}}


def parquet_with_nan(images: Path, own: Path) -> dict[str, Any]:
    found = [{"id": row["id"], "vector": row["vector"]} for row in rows({"vector": [float("nan"), 1.0]})]
    pq.write_table(pa.Table.from_pylist(found), own / "rows.parquet", row_group_size=300)
    return {"use": "table", "url": str(own / "rows.parquet")}


def arrays_with_nan(images: Path, own: Path) -> dict[str, Any]:
    vectors = np.ones((COUNT, 3), dtype=np.float32)
    vectors[PLACES, 1] = np.nan
    np.savez(own / "all.npz", vector=vectors, id=np.array([f"s{n}" for n in range(COUNT)]))
    return {"use": "arrays", "url": str(own / "all.npz")}


def arrays_with_one_id(images: Path, own: Path) -> dict[str, Any]:
    ids = np.array(["s0" if n in PLACES else f"s{n}" for n in range(COUNT)])
    np.savez(own / "all.npz", vector=np.ones((COUNT, 3), dtype=np.float32), id=ids)
    return {"use": "arrays", "url": str(own / "all.npz")}


def shards(own: Path, name: Callable[[int], str], data: Callable[[int], bytes] = png, cut: bool = False) -> str:
    """20 tar files of 100 samples; with `cut`, each ends in the middle of its last image."""
    for shard in range(20):
        out, end = io.BytesIO(), 0
        with tarfile.open(fileobj=out, mode="w") as tar:
            for number in range(100 * shard, 100 * shard + 100):
                info, end = tarfile.TarInfo(name(number)), tar.offset
                info.size = len(data(number))
                tar.addfile(info, io.BytesIO(data(number)))
        whole = out.getvalue()
        (own / f"{shard:02d}.tar").write_bytes(whole[: end + 512 + 30] if cut else whole)
    return str(own / "{00..19}.tar")


def truncated_tar(images: Path, own: Path) -> dict[str, Any]:
    return {"use": "webdataset", "url": shards(own, lambda n: f"s{n}.png", cut=True)}


def tar_with_a_way_out(images: Path, own: Path) -> dict[str, Any]:
    return {"use": "webdataset", "url": shards(own, lambda n: f"../s{n}.png" if n in PLACES else f"s{n}.png")}


def tar_with_one_id(images: Path, own: Path) -> dict[str, Any]:
    # Others stand between samples of one name, which would be one sample else.
    return {"use": "webdataset", "url": shards(own, lambda n: "s0.png" if n in PLACES else f"s{n}.png")}


def zip_with_a_way_out(images: Path, own: Path) -> dict[str, Any]:
    with zipfile.ZipFile(own / "all.zip", "w") as archive:
        for number in range(250):
            archive.write(images / f"in/{number}.png", f"in/{number}.png")
        archive.writestr("in/rows.jsonl", "\n".join(map(json.dumps, rows({"image": "../../secret.png"}))))
        archive.write(images / "secret.png", "secret.png")
    return {"use": "table", "url": f"zip://in/rows.jsonl::{own}/all.zip"}


def zip_bombs(images: Path, own: Path) -> dict[str, Any]:
    with zipfile.ZipFile(own / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(250):
            archive.write(images / f"in/{number}.png", f"{number}.png")
        with archive.open("large.png", "w") as file:
            for _ in range(40):
                file.write(bytes(2**20))
        archive.writestr("rows.jsonl", "\n".join(map(json.dumps, rows({"image": "large.png"}))))
    return {"use": "table", "url": f"zip://rows.jsonl::{own}/all.zip", "max_bytes": 10 * 2**20}


def sound_bombs(images: Path, own: Path) -> dict[str, Any]:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(own / "long.flac", np.zeros(8000 * 600), 8000)
    (own / "short.wav").write_bytes(sound())
    named = [{"id": f"s{n}", "audio": "long.flac" if n in PLACES else "short.wav"} for n in range(COUNT)]
    (own / "rows.jsonl").write_text("\n".join(map(json.dumps, named)))
    column = {"column": "audio", "rate": 8000}
    return {"use": "table", "url": str(own / "rows.jsonl"), "columns": {"audio": column}, "max_seconds": 60}


def dataset_with_nan(images: Path, own: Path) -> dict[str, Any]:
    datasets = pytest.importorskip("datasets")
    found = [{"id": row["id"], "vector": row["vector"]} for row in rows({"vector": [float("nan"), 1.0]})]
    datasets.Dataset.from_list(found).save_to_disk(own / "set")
    return {"use": "hf_dataset", "path": str(own / "set")}


CASES: dict[str, tuple[Callable[[Path, Path], dict[str, Any]], str, str]] = {
    "truncated tar": (truncated_tar, "image", r"\d\d\.tar ends in the middle of 's\d+\.png'"),
    "corrupt image": (table({"image": "cut.png"}), "image", r"cut\.png: an image that cannot be decoded"),
    "wrong codec": (table({"image": "sound.png"}), "image", r"sound\.png: not an image of a known format"),
    "missing file": (table({"image": "none.png"}), "image", r"no file 'none\.png' in /"),
    "path that leaves the folder": (table({"image": "../secret.png"}), "image", r"'\.\./secret\.png' leaves /"),
    "path that leaves a zip": (zip_with_a_way_out, "image", r"'\.\./\.\./secret\.png' leaves zip://in::/"),
    "path that leaves a tar": (tar_with_a_way_out, "image", r"'\.\./s\d+\.png' leaves the archive"),
    "NaN in a vector": (table({"vector": [1.0, float("nan")]}), "vector", "NaN or infinite at place 1"),
    "NaN in Parquet": (parquet_with_nan, "vector", "NaN or infinite at place 0"),
    "NaN in arrays": (arrays_with_nan, "vector", r"row \d+: vector holds NaN"),
    "NaN in a data set": (dataset_with_nan, "vector", "NaN or infinite at place 0"),
    "empty caption": (required_caption, "caption", "empty, but required"),
    "one id twice": (table({"id": "s0"}), "caption", "id 's0' was there before, at line 1"),
    "one id twice in shards": (tar_with_one_id, "image", "id 's0' was there before, at 00.tar, sample 's0'"),
    "one id twice in arrays": (arrays_with_one_id, "vector", "id 's0' was there before, at row 0"),
    "image bomb": (table({"image": "bomb.png"}), "image", r"100000 x 100000 pixels, more than `max_pixels`"),
    "zip bomb": (zip_bombs, "image", r"holds 41943040 bytes, more than `max_bytes` \(10485760\)"),
    "sound bomb": (sound_bombs, "audio", r"a sound of 600 s, more than `max_seconds` \(60\)"),
}


def ids_of(case: str) -> list[str]:
    if case == "truncated tar":
        return [f"s{number}" for number in range(99, COUNT, 100)]
    if case.startswith("one id twice"):
        return [f"s0#{number}" for number in PLACES]
    if case == "path that leaves a tar":
        return [f"../s{number}" for number in PLACES]
    return [f"s{number}" for number in PLACES]


def loader(source: Source, field: str, workers: int = 0) -> Loader:
    requests = [ColumnRequest(field, Target("fields", field))]
    return Loader(source, {}, requests, sampler=Shuffle(drop_last=False), batch_size=100, seed=1, workers=workers)


@pytest.mark.parametrize("case", list(CASES))
def test_each_corruption_and_policy(case: str, images: Path, tmp_path: Path) -> None:
    write, field, reason = CASES[case]
    declared = write(images, tmp_path)
    bad = ids_of(case)

    # One message, which names the first that is met.
    with (
        pytest.raises((SampleError, ComponentError), match=reason) as caught,
        loader(Source.accept(declared), field) as loading,
    ):
        list(loading.epoch(0))
    assert "\n" not in str(caught.value)

    with loader(Source.accept({**declared, "bad": "skip"}), field) as loading:
        batches = list(loading.epoch(0))
        assert sorted(loading.skipped) == sorted(bad)
    assert all(re.search(reason, why) for why in loading.skipped.values())
    assert sum(batch.size for batch in batches) == COUNT - BAD
    assert not set(bad) & {id for batch in batches for id in batch.ids}

    listed = tmp_path / "out" / "bad.jsonl"
    kept = Source.accept({**declared, "bad": "quarantine", "quarantine": str(listed)})
    for _ in range(2):
        # Two epochs, and again by a loader that knows nothing of the first.
        with loader(kept, field) as loading:
            sizes = [batch.size for epoch in (0, 1) for batch in loading.epoch(epoch)]
        assert sum(sizes) == 2 * (COUNT - BAD)
        found = [json.loads(line) for line in listed.read_text().splitlines()]
        assert sorted(row["id"] for row in found) == sorted(bad)
        assert all(re.search(reason, row["reason"]) for row in found)


@pytest.mark.parametrize("case", ["corrupt image", "truncated tar"])
def test_with_workers(case: str, images: Path, tmp_path: Path) -> None:
    write, field, _ = CASES[case]
    declared = write(images, tmp_path)
    listed = tmp_path / "bad.jsonl"
    kept = Source.accept({**declared, "bad": "quarantine", "quarantine": str(listed)})
    with loader(kept, field, workers=2) as loading:
        sizes = [batch.size for epoch in (0, 1) for batch in loading.epoch(epoch)]
        assert sorted(loading.skipped) == sorted(ids_of(case))
    assert sum(sizes) == 2 * (COUNT - BAD)
    assert sorted(json.loads(line)["id"] for line in listed.read_text().splitlines()) == sorted(ids_of(case))


@pytest.mark.parametrize("case", ["corrupt image", "NaN in Parquet", "truncated tar", "path that leaves a tar"])
def test_in_a_stream(case: str, images: Path, tmp_path: Path) -> None:
    write, field, reason = CASES[case]
    # A stream has classes only where their names are written.
    declared = {**write(images, tmp_path), "stream": {"samples": COUNT}, "columns": {field: field}}
    with pytest.raises((SampleError, ComponentError), match=reason), loader(Source.accept(declared), field) as loading:
        list(loading.epoch(0))
    listed = tmp_path / "bad.jsonl"
    kept = Source.accept({**declared, "bad": "quarantine", "quarantine": str(listed)})
    with loader(kept, field) as loading:
        sizes = [batch.size for epoch in (0, 1) for batch in loading.epoch(epoch)]
    assert sum(sizes) == 2 * (COUNT - BAD)
    found = [json.loads(line) for line in listed.read_text().splitlines()]
    assert sorted(row["id"] for row in found) == sorted(loading.skipped)
    assert len(found) == BAD
    assert all(re.search(reason, row["reason"]) for row in found)


def test_an_empty_caption_is_absent_where_it_is_not_required(images: Path, tmp_path: Path) -> None:
    with loader(Source.accept(table({"caption": ""})(images, tmp_path)), "caption") as loading:
        batches = list(loading.epoch(0))
    present = [batch.columns["caption"].present for batch in batches]
    absent = {
        id for batch, there in zip(batches, present, strict=True) if there is not None
        for id, is_there in zip(batch.ids, there.tolist(), strict=True) if not is_there
    }  # fmt: skip
    assert absent == {f"s{number}" for number in PLACES}


SPEC = """
mmflow: 1
name: damaged
data:
  train: {train}
  test: {{use: shapes, size: 32, pixels: 16}}
encoders:
  image: {{use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {{use: linear, dim: 8}}}}
  text: {{use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {{use: linear, dim: 8}}}}
losses:
  align: {{use: infonce, of: [image, text]}}
train: {{data: train, epochs: 1, batch_size: 100, optimizer: {{use: adamw, lr: 1e-3}}}}
eval:
  retrieval: {{use: retrieval, data: train, of: [image, text], at: [1]}}
"""


def test_the_report_of_a_run_names_what_was_left_out(images: Path, tmp_path: Path) -> None:
    from mmflow.flow.run import RunOptions, run_spec
    from mmflow.spec import load_text

    declared = table({"image": "cut.png"})(images, tmp_path)
    listed = tmp_path / "bad.jsonl"
    kept = {**declared, "bad": "quarantine", "quarantine": str(listed)}
    spec = load_text(SPEC.format(train=json.dumps(kept)))
    outcome = run_spec(spec, RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    expected = [f"s{number}" for number in PLACES]
    for name in ("train.json", "metrics.json"):
        (path,) = (tmp_path / "store").rglob(name)
        skipped = json.loads(path.read_text())["skipped"]
        assert sorted(skipped if name == "train.json" else skipped["train"]) == sorted(expected)
    assert sorted(outcome.summary()["left_out"]["train"]) == sorted(expected)
    (line,) = [line for line in outcome.lines if "left out" in line]
    assert re.fullmatch(r"20 samples of train left out: (s\d+, ){5}\.\.\.", line)
    page = Path(str(outcome.report)).read_text()
    assert "20 samples of train that could not be read" in page
    for id in expected:
        assert (
            f"<code>{id}</code> rows.jsonl, line {int(id[1:]) + 1}, column &#39;image&#39;: cut.png: an image" in page
        )
    # Read by training and by the evaluation, and listed once.
    assert sorted(json.loads(line)["id"] for line in listed.read_text().splitlines()) == sorted(expected)


def test_a_stage_that_reads_two_entries_says_which_one_a_sample_was_left_out_of(images: Path, tmp_path: Path) -> None:
    from mmflow.flow.run import RunOptions, run_spec
    from mmflow.spec import load_text

    broken = {**table({"image": "cut.png"})(images, tmp_path), "bad": "skip"}
    head, _, _ = SPEC.partition("train: {{data")
    subset = {"use": "subset", "of": broken, "order": "first", "size": min(PLACES)}
    text = head.format(train=json.dumps(broken)).replace("{use: shapes, size: 32, pixels: 16}", json.dumps(subset))
    probe = "eval: {near: {use: knn, data: train, test: test, of: image, labels: label, k: 3}}\n"
    outcome = run_spec(load_text(text + probe), RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    assert list(outcome.summary()["left_out"]) == ["train"]
