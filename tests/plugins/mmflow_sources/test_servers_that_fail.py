"""Servers that stall, drop or refuse: read again for a bounded time, then one error that says what was tried."""

from __future__ import annotations

import io
import itertools
import os
import re
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mmflow_samplers.sequential import Sequential
from PIL import Image

from mmflow.data import ColumnRequest, Loader
from mmflow.plugin import ComponentError, SampleError, Source
from mmflow.plugin.targets import Target

pytestmark = pytest.mark.process

COUNT = 12
TIMEOUT, RETRY_FOR = 0.25, 0.5
LONGEST = 30.0
"""Seconds that a whole case may take: far more than it needs, far less than the clients' own limits."""


def png(number: int, side: int = 4) -> bytes:
    """An image whose first pixel tells its number; the others are noise, which makes files large."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    pixels[0, 0] = number
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", compress_level=0)
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("served")
    for number in range(COUNT):
        (base / f"{number}.png").write_bytes(png(number))
    (base / "rows.csv").write_text("image,n\n" + "".join(f"{number}.png,{number}\n" for number in range(COUNT)))
    large = [png(number, 320) for number in range(COUNT)]
    rows = [{"n": number, "image": {"bytes": large[number]}} for number in range(COUNT)]
    pq.write_table(pa.Table.from_pylist(rows), base / "rows.parquet", row_group_size=4)
    with tarfile.open(base / "part.tar", "w") as tar:
        for number in range(COUNT):
            info = tarfile.TarInfo(f"{number:02d}.png")
            info.size = len(large[number])
            tar.addfile(info, io.BytesIO(large[number]))
    return base


class Faulty:
    """How the server treats what it is asked for: `fault` applies to paths that end with `of`, `times` times."""

    def __init__(self) -> None:
        self.of, self.fault, self.times, self.skip = "", "", 0, 0
        self.asked: Counter[str] = Counter()

    def set(self, of: str, fault: str, times: int = 10**9, skip: int = 0) -> None:
        self.of, self.fault, self.times, self.skip = of, fault, times, skip
        self.asked.clear()


@pytest.fixture(scope="module")
def server(folder: Path, serve: Callable[..., Any], web_handler: type) -> tuple[str, Faulty]:
    faulty = Faulty()

    class Handler(web_handler):
        def send_head(self) -> Any:
            path = self.path.partition("?")[0]
            faulty.asked[path] += 1
            if not faulty.of or not path.endswith(faulty.of) or faulty.times <= 0:
                return super().send_head()
            if faulty.skip:
                faulty.skip -= 1
                return super().send_head()
            faulty.times -= 1
            if faulty.fault == "stall":
                # Until the client gives up: its side of the connection closes.
                self.connection.recv(1)
            elif faulty.fault == "503":
                self.send_error(503)
            elif faulty.fault == "403":
                self.send_error(403)
            elif faulty.fault == "drop":
                self.cut = self.command == "GET"
                faulty.times += self.command != "GET"
                return super().send_head()
            self.close_connection = True
            return None

        def copyfile(self, source: Any, outputfile: Any) -> None:
            if not self.__dict__.pop("cut", False):
                return super().copyfile(source, outputfile)
            outputfile.write(source.read(20))
            self.close_connection = True

    return serve(folder, Handler).url, faulty


asked = itertools.count()


def source(url: str, name: str, **fields: Any) -> Source:
    # A query of its own makes a file that nobody has opened before.
    declared = {"url": f"{url}/{name}?{next(asked)}", "timeout": TIMEOUT, "retry_for": RETRY_FOR, **fields}
    return Source.accept({"use": "webdataset" if name.endswith(".tar") else "table", **declared})


def images(found: Source, workers: int = 0) -> list[int]:
    requests = [ColumnRequest("image", Target("fields", "image"))]
    with Loader(found, {}, requests, sampler=Sequential(), batch_size=4, seed=0, workers=workers) as loader:
        values = [batch.columns["image"].values[:, 0, 0, 0] for batch in loader.epoch(0)]
    return [round(float(value) * 255) for part in values for value in part]


FAULTS = {"stall": "Timeout|no answer", "503": r"answers 503 \(Service Unavailable\)", "drop": "not completed|payload"}


OPENED = [
    ("rows.csv", "stall"),
    ("rows.csv", "503"),
    ("rows.csv", "drop"),
    ("rows.parquet", "drop"),
    ("part.tar", "stall"),
]


@pytest.mark.parametrize(("name", "fault"), OPENED)
def test_two_failures_are_got_over(server: tuple[str, Faulty], name: str, fault: str) -> None:
    url, faulty = server
    faulty.set(name, fault, times=2)
    assert images(source(url, name, retry_for=10)) == list(range(COUNT))
    assert faulty.times == 0


@pytest.mark.parametrize(("fault", "workers"), [("stall", 0), ("503", 0), ("drop", 0), ("drop", 1)])
def test_failures_in_the_middle_of_an_epoch_are_got_over(server: tuple[str, Faulty], fault: str, workers: int) -> None:
    url, faulty = server
    faulty.set("7.png", fault, times=2)
    assert images(source(url, "rows.csv", retry_for=10), workers) == list(range(COUNT))
    assert faulty.times == 0


@pytest.mark.parametrize(("name", "fault"), OPENED)
def test_a_server_that_goes_on_failing_is_one_error_at_opening(
    server: tuple[str, Faulty], name: str, fault: str
) -> None:
    url, faulty = server
    faulty.set(name, fault)
    begun = time.monotonic()
    with pytest.raises(ComponentError, match=FAULTS[fault]) as caught:
        source(url, name).fields()
    assert time.monotonic() - begun < LONGEST
    message = str(caught.value)
    assert f"{url}/{name}" in message
    assert re.search(r"tried \d+ times in [\d.]+ s", message)
    assert "\n" not in message


@pytest.mark.parametrize(("bad", "workers"), [("error", 0), ("skip", 1)])
def test_a_server_that_goes_on_failing_is_one_error_while_loading(
    server: tuple[str, Faulty], workers: int, bad: str
) -> None:
    # An outage is no bad sample: skipping would leave out what is merely out of reach.
    url, faulty = server
    found = source(url, "rows.csv", bad=bad)
    found.fields()
    faulty.set("7.png", "stall")
    with pytest.raises(SampleError, match=FAULTS["stall"]) as caught:
        images(found, workers)
    message = str(caught.value)
    for part in ("sample '7'", "rows.csv, line 9, column 'image'", f"{url}/7.png", "tried"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["rows.parquet", "part.tar"])
def test_large_files_that_fail_while_samples_are_read(server: tuple[str, Faulty], name: str) -> None:
    url, faulty = server
    found = source(url, name)
    reader = found.open()

    def read() -> list[int]:
        return [int(reader.read(number, ("image",))["image"][0, 0, 0]) for number in range(COUNT)]

    faulty.set(name, "503")
    with pytest.raises(SampleError, match="answers 503"):
        read()
    faulty.set(name, "drop", times=1)
    assert read() == list(range(COUNT))


def test_a_server_that_is_gone_when_the_plan_is_made(server: tuple[str, Faulty]) -> None:
    url, faulty = server
    found = source(url, "rows.csv")
    found.fields()
    faulty.set("7.png", "503")
    with pytest.raises(ComponentError, match=r"7\.png: the server answers 503.*tried"):
        found.fingerprint()


def test_a_refusal_is_not_asked_for_again(server: tuple[str, Faulty]) -> None:
    url, faulty = server
    found = source(url, "rows.csv", bad="skip")
    assert len(found.open()) == COUNT
    faulty.set("7.png", "403")
    assert images(found) == [number for number in range(COUNT) if number != 7]
    assert faulty.asked["/7.png"] == 1
    faulty.set("rows.csv", "403")
    with pytest.raises(ComponentError, match="answers 403"):
        source(url, "rows.csv").fields()


def test_a_file_that_is_not_there_is_said_at_once(server: tuple[str, Faulty]) -> None:
    url, faulty = server
    faulty.set("", "")
    with pytest.raises(ComponentError, match=r"no file 'none\.csv'"):
        source(url, "none.csv", retry_for=1000).fields()


def test_no_server_at_all(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(ComponentError, match=r"127\.0\.0\.1:1/rows\.csv.*tried \d+ times"):
        source("http://127.0.0.1:1", "rows.csv").fields()
    assert time.monotonic() - begun < LONGEST


def test_an_s3_api_that_stalls(server: tuple[str, Faulty], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    import fsspec.config

    url, faulty = server
    faulty.set("rows.csv", "stall")
    settings = {"endpoint_url": url, "key": "a", "secret": "b"}
    monkeypatch.setitem(fsspec.config.conf, "s3", settings)
    begun = time.monotonic()
    with pytest.raises(ComponentError, match=r"s3://bucket/rows\.csv.*[Tt]imeout.*tried \d+ times"):
        Source.accept(
            {"use": "table", "url": "s3://bucket/rows.csv", "timeout": TIMEOUT, "retry_for": RETRY_FOR}
        ).fields()
    assert time.monotonic() - begun < LONGEST


def test_an_archive_over_a_network(server: tuple[str, Faulty], folder: Path) -> None:
    import zipfile

    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for path in folder.glob("*.png"):
            archive.write(path, path.name)
        archive.write(folder / "rows.csv", "rows.csv")
    url, faulty = server
    for fault in FAULTS:
        faulty.set("all.zip", fault, times=2)
        declared = {"timeout": TIMEOUT, "retry_for": 5, "url": f"zip://rows.csv::{url}/all.zip?{fault}"}
        assert images(Source.accept({"use": "table", **declared})) == list(range(COUNT))
        assert faulty.times == 0


SPEC = """
mmflow: 1
name: far
data:
  train: {{use: table, url: "{url}/rows.csv", timeout: 0.3, retry_for: 0.5}}
encoders:
  image: {{use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {{use: linear, dim: 8}}}}
losses:
  spread: {{use: uniformity, of: image}}
train: {{data: train, epochs: 1, batch_size: 4, optimizer: {{use: adamw, lr: 1e-3}}}}
"""


def test_checking_a_spec_whose_data_are_out_of_reach(server: tuple[str, Faulty], tmp_path: Path) -> None:
    url, faulty = server
    faulty.set("rows.csv", "stall")
    (tmp_path / "far.yaml").write_text(SPEC.format(url=url))
    done = subprocess.run(
        [sys.executable, "-m", "mmflow", "check", "far.yaml"], cwd=tmp_path, env=dict(os.environ),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error") or "tried" in line]
    assert any(f"{url}/rows.csv" in line and "tried" in line for line in errors)
    assert "far.yaml" in done.stderr
