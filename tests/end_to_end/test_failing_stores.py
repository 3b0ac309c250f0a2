"""Whole runs on stores that fail: an S3 server on the loopback that is not there, dies or is silent, and full disks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SPEC = """
mmflow: 1
name: small
data:
  train: {use: shapes, size: 64, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [image, text]}
train: {data: train, steps: STEPS, batch_size: 16, log_every: 1, checkpoint_every: EVERY, optimizer: adamw}
eval:
  retrieval: {use: retrieval, data: train, of: [image, text], at: [1]}
"""


class Bucket:
    """A moto server in a process of its own, which can be killed and stopped."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.log = folder / "moto.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 120
        while not self._put_bucket():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _put_bucket(self) -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/bucket", method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def has(self, name: str) -> bool:
        """Whether there is an object whose name ends so."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/bucket?list-type=2", timeout=60) as answer:
            return f"{name}</Key>".encode() in answer.read()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    bucket = Bucket(tmp_path)
    yield bucket
    bucket.process.send_signal(signal.SIGCONT)
    bucket.kill()


class Run:
    """`mmflow run --local` in a process of its own; its lines of standard error as they come."""

    def __init__(self, folder: Path, store: str, port: int | None, steps: int, every: float) -> None:
        (folder / "spec.yaml").write_text(SPEC.replace("STEPS", str(steps)).replace("EVERY", str(every)))
        patience = {"connect_timeout": 1, "read_timeout": 1, "retries": {"total_max_attempts": 1}}
        settings = {"key": "mmflow", "secret": "mmflow", "config_kwargs": patience}
        settings |= {"endpoint_url": f"http://127.0.0.1:{port}"} if port else {}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MMFLOW_CACHE": str(folder / "cache")}
        environment["FSSPEC_S3"] = json.dumps(settings)
        command = [sys.executable, "-m", "mmflow", "run", "spec.yaml", "--local", "--workers", "0", "--store", store]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []

    def until(self, text: str) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            if text in line:
                return
        pytest.fail(f"{text} was not said: {self.lines}")

    def end(self) -> int:
        assert self.process.stderr is not None
        self.lines += [line.rstrip() for line in self.process.stderr]
        return self.process.wait()

    def messages(self) -> list[str]:
        """What is said beside the news of a run that goes well."""
        plain = (": trains ", "found in the store", ": stored what")
        return [x for x in self.lines if x.startswith(("error: ", "note: ")) and not any(text in x for text in plain)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Begins a run on a store, with the S3 server at a port."""
    begun: list[Run] = []

    def begin(store: str, port: int | None = None, steps: int = 4, every: float = 600) -> Run:
        begun.append(Run(tmp_path, store, port, steps, every))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.wait()


def test_a_store_out_of_reach_is_one_message(run: Callable[..., Run]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    refused = run("s3://bucket/runs", port)
    assert refused.end() == 2
    (message,) = refused.messages()
    assert message.startswith("error: cannot read entries/")
    assert "in s3://bucket/runs" in message
    assert str(port) in message


def test_a_store_that_takes_connections_and_never_answers_is_one_message(run: Callable[..., Run]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = run("s3://bucket/runs", silent.getsockname()[1])
        assert begun.end() == 2
    (message,) = begun.messages()
    assert message.startswith("error: cannot read entries/")
    assert "imeout" in message


def test_a_mistyped_bucket_is_one_message_and_is_not_made(run: Callable[..., Run], bucket: Bucket) -> None:
    begun = run("s3://bukcet/runs", bucket.port)
    assert begun.end() == 2
    (message,) = begun.messages()
    assert "s3://bukcet/runs" in message
    assert "bucket does not exist" in message
    with urllib.request.urlopen(f"http://127.0.0.1:{bucket.port}/", timeout=60) as answer:
        listed = answer.read().decode()
    assert "<Name>bucket</Name>" in listed
    assert "bukcet" not in listed


@pytest.mark.parametrize("way", ["killed", "silent"])
def test_a_store_lost_in_the_middle_costs_no_work(
    run: Callable[..., Run], bucket: Bucket, tmp_path: Path, way: str
) -> None:
    begun = run("s3://bucket/runs", bucket.port, steps=60, every=0.05 if way == "killed" else 600)
    begun.until("train: 1/60")
    if way == "killed":
        while not bucket.has("/checkpoint/00000002.json"):
            assert begun.process.poll() is None
        bucket.kill()
    else:
        bucket.process.send_signal(signal.SIGSTOP)
    assert begun.end() == 1
    (failure,) = begun.messages()
    assert failure.startswith("note: stage train failed: cannot store the result ")
    warnings = [line for line in begun.lines if "the one before is kept, and the stage goes on" in line]
    assert bool(warnings) == (way == "killed")
    kept = failure.partition("it is kept in ")[2].partition(",")[0]
    assert Path(kept).is_relative_to(tmp_path / "cache")
    history = (Path(kept) / "history.jsonl").read_bytes()
    assert not any("Traceback" in line for line in begun.lines), begun.lines

    if way == "killed":
        bucket.start()
    else:
        bucket.process.send_signal(signal.SIGCONT)
    again = run("s3://bucket/runs", bucket.port, steps=60)
    assert again.end() == 0
    assert "note: train: stored what an earlier run had to keep on this machine" in again.lines
    assert not any(line.startswith("train: 1/60") for line in again.lines)
    assert not Path(kept).exists()
    (stored,) = (tmp_path / "cache").rglob("history.jsonl")
    assert stored.read_bytes() == history


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all room of a disk; returns the file that has it."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


def test_a_disk_that_is_full_before_the_start_is_one_message(run: Callable[..., Run], small_disk: Path) -> None:
    fill(small_disk)
    begun = run(str(small_disk / "store"))
    assert begun.end() == 2
    (message,) = begun.messages()
    assert message.startswith("error: ")
    assert "No space left on device" in message
    assert str(small_disk) in message


def test_a_disk_without_room_for_the_model_is_told_before_the_first_step(
    run: Callable[..., Run], small_disk: Path
) -> None:
    (small_disk / "other").write_bytes(b"x" * 1_500_000)
    begun = run(str(small_disk / "store"))
    assert begun.end() == 1
    (message,) = begun.messages()
    assert "there is no room in" in message
    assert "for a model of 0.0 MB: No space left on device; make room" in message
    assert not any(line.startswith("train: 1/") for line in begun.lines)


def test_a_disk_that_fills_up_in_the_middle_costs_no_work(run: Callable[..., Run], small_disk: Path) -> None:
    begun = run(str(small_disk / "store"), steps=60)
    begun.until("train: 1/60")
    filler = fill(small_disk)
    assert begun.end() in (0, 1)
    assert any(line.startswith("train: done") for line in begun.lines), begun.lines
    assert len(begun.messages()) <= 1
    filler.unlink()
    again = run(str(small_disk / "store"), steps=60)
    assert again.end() == 0
    assert not any(line.startswith("train: 1/60") for line in again.lines)
