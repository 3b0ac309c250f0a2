"""A loader worker that dies alone costs a moment, and never a batch; the second one names what it was reading."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
from collections.abc import Collection, Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from mmflow_samplers.sequential import Sequential
from mmflow_synthetic.shapes import Shapes

from mmflow.data import ColumnRequest, Loader, scan
from mmflow.plugin import SampleError, TensorType
from mmflow.plugin.kinds import Source
from mmflow.plugin.targets import Target

pytestmark = pytest.mark.process

_spec = importlib.util.spec_from_file_location("reader_process", Path(__file__).parent / "reader_process.py")
assert _spec is not None
assert _spec.loader is not None
reader_process: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reader_process)


def lines(loading: Loader, *, kill_at: int | None = None) -> list[str]:
    """The lines of two epochs; one worker is killed once `kill_at` batches have come."""
    found = []
    for epoch in range(2):
        for batch in loading.epoch(epoch):
            found.append(reader_process.line(batch))
            if len(found) == kill_at:
                kill(loading)
    return found


def kill(loading: Loader) -> None:
    os.kill(loading.worker_pids()[-1], signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_death_the_batches_are_the_same_bits(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    with reader_process.loader(0) as loading:
        whole = lines(loading)
    with reader_process.loader(workers) as loading:
        first = loading.epoch(0)
        next(first)
        pids = loading.worker_pids()
        assert lines(loading, kill_at=3) == whole
        assert len(loading.worker_pids()) == workers
        assert not set(pids) & set(loading.worker_pids())
    (record,) = [record for record in caplog.records if record.name == "mmflow.data.workers"]
    assert record.levelno == logging.WARNING
    assert f"process {pids[-1]}, killed by SIGKILL" in record.message


def test_shards_that_a_dead_worker_had_open_are_read_again_up_to_the_same_batch(tmp_path: Path) -> None:
    url = reader_process.write_shards(tmp_path, [7, 5, 9, 6, 8, 10])
    with reader_process.loader(0, shards=url, batch_size=4) as loading:
        whole = lines(loading)
    with reader_process.loader(2, shards=url, batch_size=4) as loading:
        assert lines(loading, kill_at=4) == whole


def test_a_second_death_is_told_with_both_its_causes(caplog: pytest.LogCaptureFixture) -> None:
    def killed_twice() -> None:
        with reader_process.loader(1, size=90) as loading:
            for batch in loading.epoch(0):
                if batch.index in (2, 4):
                    kill(loading)

    with pytest.raises(SampleError) as caught:
        killed_twice()
    message = str(caught.value)
    assert message.startswith("a loader worker of source 'shapes' died for the second time (process ")
    assert "killed by SIGKILL" in message
    assert "\n" not in message
    assert sum("started again, once" in record.message for record in caplog.records) == 1


class Mined(Source, name="mined"):
    """Text files, one of which ends the process that reads it, as a library that crashes does."""

    folder: str
    mine: str = ""

    def open(self) -> MinedReader:
        return MinedReader(self.folder, self.mine)

    def fields(self) -> Mapping[str, TensorType]:
        return {"text": TensorType("text")}


class MinedReader:
    def __init__(self, folder: str, mine: str) -> None:
        self.files, self.mine = sorted(str(path) for path in Path(folder).iterdir()), mine

    def __len__(self) -> int:
        return len(self.files)

    def id(self, index: int) -> str:
        return Path(self.files[index]).stem

    def read(self, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
        with open(self.files[index]) as file:
            text = file.read()
        if self.id(index) == self.mine:
            os._exit(7)
        return {"text": text}

    def static(self) -> Mapping[str, Any]:
        return {}


TEXT = [ColumnRequest("text", Target("fields", "text"))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(20):
        (tmp_path / f"text-{number:02}.txt").write_text(f"line {number} " * 20_000)
    return tmp_path


@pytest.mark.parametrize("reading", ["training", "evaluation"])
def test_a_sample_that_ends_every_process_is_named_with_its_file(folder: Path, reading: str) -> None:
    source = Mined(folder=str(folder), mine="text-13")
    loading = Loader(source, {}, TEXT, sampler=Sequential(), batch_size=4, seed=0, workers=2)
    batches = loading.epoch(0) if reading == "training" else scan(source, {}, TEXT, batch_size=4, workers=1)
    with pytest.raises(SampleError) as caught:
        list(batches)
    assert f"while it read sample 'text-13' (file {folder}/text-13.txt)" in str(caught.value)
    assert "exit code 7" in str(caught.value)


def test_a_worker_killed_in_the_middle_of_a_batch_that_fills_the_pipe_is_no_end_of_time(folder: Path) -> None:
    """Texts of a megabyte go through a pipe of 64 KiB: the worker waits in the middle of one until it is taken."""
    source = Mined(folder=str(folder))
    with Loader(source, {}, TEXT, sampler=Sequential(), batch_size=4, seed=0, workers=1) as loading:
        passing = loading.epoch(0)
        found = [next(passing).ids]
        worker: BaseProcess = loading._workers.processes()[0]
        while "pipe" not in Path(f"/proc/{worker.pid}/task/{feeder(worker)}/wchan").read_text():
            pass
        kill(loading)
        found += [batch.ids for batch in passing]
    assert [id for ids in found for id in ids] == [f"text-{number:02}" for number in range(20)]


def feeder(worker: BaseProcess) -> int:
    """The thread of a worker that writes to the pipe: the one that waits there, if there is one."""
    for task in Path(f"/proc/{worker.pid}/task").iterdir():
        if "pipe" in (task / "wchan").read_text():
            return int(task.name)
    assert worker.pid is not None
    return worker.pid


def test_a_death_before_the_first_batch_counts_as_well(folder: Path) -> None:
    with pytest.raises(SampleError, match="second time"):
        list(scan(Mined(folder=str(folder), mine="text-00"), {}, TEXT, batch_size=4, workers=1))


def test_an_error_that_is_no_death_is_passed_on() -> None:
    class Wrong(Sequential, name="wrong"):
        def batches(self, draw: Any) -> Iterator[Any]:
            yield [0, 1]
            raise RuntimeError("no more")

    with (
        Loader(Shapes(size=8), {}, [ColumnRequest("label", Target("fields", "label"))], sampler=Wrong(), batch_size=2,
               seed=0, workers=1) as loading,
        pytest.raises(RuntimeError, match=r"^no more$"),
    ):  # fmt: skip
        list(loading.epoch(0))
