"""Every source gives the same batches of the same samples from every filesystem."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import fsspec.config
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from mmflow_samplers.shuffle import Shuffle
from PIL import Image

from mmflow.data import Batch, ColumnRequest, Loader, scan
from mmflow.plugin import ComponentError, Source
from mmflow.plugin.targets import Target

pytestmark = pytest.mark.process

COUNT = 500
NAMES = ("ant", "cat", "dog")
KEYS = {"key": "mmflow", "secret": "mmflow"}


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image(number)).save(out, format="PNG")
    return out.getvalue()


def row(number: int) -> dict[str, Any]:
    return {
        "id": f"{number:03d}", "caption": f"an image, \"no. {number}\"", "label": NAMES[number % 3],
        "vector": [number / 4, -number, 0.5],
    }  # fmt: skip


def write_all(base: Path) -> None:
    """The samples in every format, below `base`."""
    rows = [row(number) for number in range(COUNT)]
    images = [png(number) for number in range(COUNT)]
    (base / "folder").mkdir(parents=True)
    for number, sample in enumerate(rows):
        (base / f"folder/{sample['id']}.png").write_bytes(images[number])
        (base / f"folder/{sample['id']}.json").write_text(json.dumps({k: v for k, v in sample.items() if k != "id"}))
    with zipfile.ZipFile(base / "folder.zip", "w") as archive:
        for path in sorted((base / "folder").iterdir()):
            archive.write(path, path.name)
    named = [{**sample, "image": f"folder/{sample['id']}.png"} for sample in rows]
    (base / "rows.jsonl").write_text("\n".join(map(json.dumps, named)))
    lines = ["id,caption,label,vector,image"]
    for sample in named:
        caption = '"' + sample["caption"].replace('"', '""') + '"'
        lines.append(f'{sample["id"]},{caption},{sample["label"]},"{sample["vector"]}",{sample["image"]}')
    (base / "rows.csv").write_text("\n".join(lines))
    held = [{**sample, "image": {"bytes": data}} for sample, data in zip(rows, images, strict=True)]
    pq.write_table(pa.Table.from_pylist(held), base / "rows.parquet", row_group_size=64)
    for shard in range(5):
        with tarfile.open(base / f"part-{shard}.tar", "w") as tar:
            for number in range(100 * shard, 100 * shard + 100):
                sidecar = {"caption": rows[number]["caption"], "vector": rows[number]["vector"]}
                for extension, data in {
                    "png": images[number], "cls": NAMES[number % 3].encode(), "json": json.dumps(sidecar).encode()
                }.items():  # fmt: skip
                    info = tarfile.TarInfo(f"{number:03d}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    arrays: dict[str, np.ndarray] = {
        "image": np.stack([image(number) for number in range(COUNT)]),
        "label": np.array([number % 3 for number in range(COUNT)]),
        "vector": np.array([sample["vector"] for sample in rows], dtype=np.float32),
    }
    words = {name: np.array([sample[name] for sample in rows]) for name in ("id", "caption")}
    np.savez(base / "all.npz", **arrays, **words)  # type: ignore[arg-type]
    np.save(base / "vector.npy", arrays["vector"])
    from safetensors.numpy import save_file

    save_file(arrays, base / "all.safetensors")
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "id": datasets.Value("string"), "caption": datasets.Value("string"), "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(NAMES)), "vector": datasets.Sequence(datasets.Value("float32")),
        }
    )  # fmt: skip
    columns = {name: [sample[name] for sample in held] for name in features}
    made = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict({"train": made}).save_to_disk(base / "hub")


ARRAYS = {"image": "image", "label": {"array": "label", "names": NAMES}, "vector": "vector"}
FORMATS: dict[str, dict[str, Any]] = {
    "csv": {"use": "table", "url": "rows.csv"},
    "jsonl": {"use": "table", "url": "rows.jsonl"},
    "parquet": {"use": "table", "url": "rows.parquet"},
    "folder": {"use": "folder", "url": "folder"},
    "webdataset": {"use": "webdataset", "url": "part-{0..4}.tar"},
    "hf_dataset": {"use": "hf_dataset", "path": "hub", "split": "train"},
    "npz": {"use": "arrays", "url": "all.npz", "columns": {**ARRAYS, "caption": "caption"}},
    "npy": {"use": "arrays", "url": "vector.npy"},
    "safetensors": {"use": "arrays", "url": "all.safetensors", "columns": ARRAYS},
}


def source_at(base: str, format: str, cache: Path, **more: Any) -> Source:
    declared = {**FORMATS[format], **more}
    if declared["use"] == "hf_dataset":
        declared |= {"path": f"{base}/{declared['path']}", "cache": str(cache)}
    else:
        declared["url"] = f"{base}/{declared['url']}"
    return Source.accept(declared)


def batches(source: Source, workers: int = 0) -> list[Batch]:
    fields = source.fields()
    requests = [ColumnRequest(name, Target("fields", name)) for name in sorted(fields) if name != "id"]
    with Loader(
        source, {}, requests, sampler=Shuffle(drop_last=False), batch_size=50, seed=3, workers=workers
    ) as loader:
        return list(loader.epoch(0))


def check(found: list[Batch], expected: list[Batch], format: str) -> None:
    has = {"npy": {"vector"}, "safetensors": {"image", "label", "vector"}}.get(format, set(expected[0].columns))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        # Formats that hold no text have no ids but the numbers of rows.
        assert [int(id) for id in one.ids] == [int(id) for id in other.ids]
        assert format in ("npy", "safetensors") or one.ids == other.ids
        assert set(one.columns) == has
        for name, column in one.columns.items():
            wanted = other.columns[name].values
            assert column.present is None
            assert column.values == wanted if isinstance(wanted, list) else torch.equal(column.values, wanted)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_all(folder)
    return folder


@pytest.fixture(scope="module")
def expected(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Batch]:
    """The batches of the table on a local disk, compared with the samples as they were made."""
    found = batches(source_at(str(base), "csv", base))
    assert sorted(id for batch in found for id in batch.ids) == [row(number)["id"] for number in range(COUNT)]
    for batch in found:
        for place, id in enumerate(batch.ids):
            number = int(id)
            pixels = batch.columns["image"].values[place].mul(255).round().permute(1, 2, 0).numpy()
            assert np.array_equal(pixels, image(number))
            assert batch.columns["caption"].values[place] == row(number)["caption"]
            assert int(batch.columns["label"].values[place]) == number % 3
            assert batch.columns["vector"].values[place].tolist() == row(number)["vector"]
    return found


@pytest.fixture(scope="module")
def bucket(base: Path) -> Iterator[str]:
    """An S3 API on loopback that holds all files; its address is in fsspec's settings, as users write them."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(fsspec.config.conf)
    fsspec.config.conf["s3"] = {"endpoint_url": f"http://{host}:{port}", **KEYS}
    fs = fsspec.filesystem("s3")
    fs.mkdir("samples")
    fs.pipe({f"samples/{path.relative_to(base)}": path.read_bytes() for path in base.rglob("*") if path.is_file()})
    yield f"{host}:{port}"
    fsspec.config.conf.clear()
    fsspec.config.conf.update(before)
    server.stop()


@pytest.fixture(params=["disk", "memory", "http", "s3"])
def place(request: pytest.FixtureRequest, base: Path) -> str:
    """The URL of a folder with all files, on one filesystem."""
    if request.param == "disk":
        return str(base)
    if request.param == "memory":
        memory = fsspec.filesystem("memory")
        if not memory.exists("/samples"):
            memory.pipe({f"/samples/{p.relative_to(base)}": p.read_bytes() for p in base.rglob("*") if p.is_file()})
        return "memory://samples"
    if request.param == "http":
        return request.getfixturevalue("site")
    request.getfixturevalue("bucket")
    return "s3://samples"


@pytest.fixture(scope="module")
def site(base: Path, serve: Callable[..., Any]) -> str:
    return serve(base).url


@pytest.mark.parametrize("format", list(FORMATS))
def test_equal_batches_from_every_filesystem(place: str, format: str, expected: list[Batch], tmp_path: Path) -> None:
    check(batches(source_at(place, format, tmp_path)), expected, format)


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet", "webdataset", "hf_dataset"])
def test_streamed_in_order_the_samples_are_the_same(place: str, format: str, base: Path, tmp_path: Path) -> None:
    named = {**{name: name for name in ("image", "caption", "vector")}, "label": {"names": NAMES}}
    streamed = source_at(place, format, tmp_path, stream=True, columns=named)
    requests = [ColumnRequest(name, Target("fields", name)) for name in named]
    one, other = (
        list(scan(source, {}, requests, batch_size=70)) for source in (streamed, source_at(str(base), "csv", tmp_path))
    )
    check(one, other, format)
    assert "".join(one[0].ids[:3]) == "000001002"


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
@pytest.mark.parametrize("where", ["http", "s3"])
def test_workers_open_their_own_connections(
    where: str, format: str, expected: list[Batch], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base = request.getfixturevalue("site") if where == "http" else "s3://samples"
    if where == "s3":
        request.getfixturevalue("bucket")
    check(batches(source_at(base, format, tmp_path), workers=2), expected, format)


@pytest.mark.parametrize(
    ("url", "use"), [("rows.jsonl", "table"), ("rows.parquet", "table"), ("part-{0..4}.tar", "webdataset")]
)
def test_streams_are_the_same_from_every_filesystem(
    url: str, use: str, base: Path, site: str, bucket: str, expected: list[Batch]
) -> None:
    found = []
    columns = {"vector": {"modality": "vector"}, "caption": "caption", "image": "image"}
    for place, workers in ((base, 0), (site, 1), ("s3://samples", 1)):
        declared = {
            "use": use,
            "url": f"{place}/{url}",
            "columns": columns,
            "stream": {"partitions": 3, "samples": COUNT},
        }
        found.append(batches(Source.accept(declared), workers))
    assert sorted(id for batch in found[0] for id in batch.ids) == sorted(id for batch in expected for id in batch.ids)
    for other in found[1:]:
        check(other, found[0], use)


def test_memory_is_read_without_workers(base: Path, expected: list[Batch], caplog: pytest.LogCaptureFixture) -> None:
    fsspec.filesystem("memory").pipe("/alone/rows.parquet", (base / "rows.parquet").read_bytes())
    check(batches(Source.accept({"use": "table", "url": "memory://alone/rows.parquet"}), 2), expected, "parquet")
    assert "is read here, not by workers" in caplog.text


def test_settings_from_the_environment_reach_the_workers(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "read.py").write_text(
        "from mmflow.data import ColumnRequest, Loader\n"
        "from mmflow.plugin import Source\n"
        "from mmflow.plugin.targets import Target\n"
        "from mmflow_samplers.shuffle import Shuffle\n"
        "if __name__ == '__main__':\n"
        "    source = Source.accept({'use': 'table', 'url': 's3://samples/rows.parquet'})\n"
        "    requests = [ColumnRequest('vector', Target('fields', 'vector'))]\n"
        "    with Loader(source, {}, requests, sampler=Shuffle(), batch_size=100, seed=0, workers=1) as loader:\n"
        "        print(sum(float(batch.columns['vector'].values[:, 0].sum()) for batch in loader.epoch(0)))\n"
    )
    settings = {"AWS_ENDPOINT_URL": f"http://{bucket}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "read.py")], env={**os.environ, **settings}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == sum(range(COUNT)) / 4


@pytest.mark.parametrize(
    ("url", "use"),
    [
        ("zip://::{base}/folder.zip", "folder"),
        ("zip://*.*::{base}/folder.zip", "folder"),
        ("zip://::{site}/folder.zip", "folder"),
        ("simplecache::{site}/rows.parquet", "table"),
        ("simplecache::{site}/part-{{0..4}}.tar", "webdataset"),
    ],
)
def test_chained_urls(url: str, use: str, base: Path, site: str, expected: list[Batch]) -> None:
    source = Source.accept({"use": use, "url": url.format(base=base, site=site)})
    check(batches(source), expected, "csv")


MISSING = {"gs://bucket/rows.csv": "gcsfs", "abfs://box/rows.csv": "adlfs", "sftp://host/rows.csv": "paramiko"}


@pytest.mark.parametrize("url", list(MISSING))
def test_a_missing_package_is_named(url: str) -> None:
    if _installed(MISSING[url]):
        pytest.skip("it is here")
    with pytest.raises(ComponentError) as caught:
        Source.accept({"use": "table", "url": url}).fields()
    assert caught.value.hint == f"pip install {MISSING[url]}"
    assert "\n" not in str(caught.value)


def _installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def test_a_web_server_without_listings_is_told_apart(
    tmp_path: Path, serve: Callable[..., Any], web_handler: type
) -> None:
    class Closed(web_handler):
        def list_directory(self, path: Any) -> None:
            self.send_error(404)

    (tmp_path / "f").mkdir()
    (tmp_path / "f/a.png").write_bytes(png(0))
    url = serve(tmp_path, Closed).url
    with pytest.raises(ComponentError) as caught:
        Source.accept({"use": "folder", "url": f"{url}/f"}).fields()
    assert "need no listing" in caught.value.hint


def test_a_server_that_gives_no_parts_of_files(tmp_path: Path, serve: Callable[..., Any], base: Path) -> None:
    import http.server

    class Whole(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    url = serve(base, Whole).url
    # A file that fits one block is read all the same; of a larger one the message says what to write.
    large = pa.table({"n": np.random.default_rng(0).normal(size=400_000)})
    pq.write_table(large, base / "large.parquet")
    with pytest.raises(ComponentError, match="simplecache::http") as caught:
        Source.accept({"use": "table", "url": f"{url}/large.parquet"}).fields()
    assert "\n" not in str(caught.value)
    found = Source.accept({"use": "table", "url": f"simplecache::{url}/large.parquet"})
    assert len(found.open()) == 400_000


def test_names_that_a_url_must_quote(tmp_path: Path, serve: Callable[..., Any]) -> None:
    (tmp_path / "f").mkdir()
    for name in ("a b", "c#1", "über"):
        (tmp_path / f"f/{name}.png").write_bytes(png(1))
    url = serve(tmp_path).url
    reader = Source.accept({"use": "folder", "url": f"{url}/f"}).open()
    assert [reader.id(n) for n in range(3)] == ["a b", "c#1", "über"]
    assert all(np.array_equal(reader[n]["image"], image(1)) for n in range(3))


def test_a_signed_url_keeps_its_query(base: Path, site: str) -> None:
    source: Mapping[str, Any] = {"use": "table", "url": f"{site}/rows.parquet?X-Sig=a/b%2Fc&e=1"}
    assert len(Source.accept(source).open()) == COUNT
