"""Batches are the same for any number of workers, from any cursor, after any end of the process."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_samplers.sequential import Sequential
from mmflow_samplers.shuffle import Shuffle
from mmflow_sources.digits import Digits
from mmflow_sources.table import Table
from mmflow_synthetic.shapes import Shapes
from mmflow_views.texts.replace_words import ReplaceWords
from pydantic import PrivateAttr

from mmflow.data import ColumnRequest, Loader, scan
from mmflow.plugin import ComponentError, Draw, SampleError, Sampler, TensorType
from mmflow.plugin.kinds import View
from mmflow.plugin.targets import Target
from mmflow.spec.references.views import ViewTypes

pytestmark = pytest.mark.process

SCRIPT = Path(__file__).parent / "reader_process.py"
_spec = importlib.util.spec_from_file_location("reader_process", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
reader_process: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reader_process)

LABEL = [ColumnRequest("label", Target("fields", "label"))]


def lines(workers: int, epochs: int = 2, start: tuple[int, int] = (0, 0)) -> list[str]:
    out = []
    with reader_process.loader(workers) as loader:
        for epoch in range(start[0], epochs):
            begin = start[1] if epoch == start[0] else 0
            out.extend(reader_process.line(batch) for batch in loader.epoch(epoch, start=begin))
    return out


@pytest.fixture(scope="module")
def uninterrupted() -> list[str]:
    return lines(0)


def test_each_epoch_has_its_order_and_its_views(uninterrupted: list[str]) -> None:
    first, second = uninterrupted[:7], uninterrupted[7:]
    ids = [[set(line.split()[2].split(",")) for line in half] for half in (first, second)]
    assert set.union(*ids[0]) != ids[0][0]
    assert [line.split()[2:] for line in first] != [line.split()[2:] for line in second]
    assert all(len(batch) == 6 for half in ids for batch in half)
    assert lines(0) == uninterrupted


def test_each_epoch_draws_each_sample_again() -> None:
    with reader_process.loader(0, size=6) as loader:
        seen = [dict(zip(b.ids, b.columns["two"].values, strict=True)) for e in (0, 1) for b in loader.epoch(e)]
    assert seen[0].keys() == seen[1].keys()
    assert not any(torch.equal(seen[0][id], seen[1][id]) for id in seen[0])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(uninterrupted: list[str], workers: int) -> None:
    assert lines(workers) == uninterrupted


def test_workers_go_on_after_an_epoch_that_was_left(uninterrupted: list[str]) -> None:
    with reader_process.loader(2) as loader:
        passing = loader.epoch(0)
        assert reader_process.line(next(passing)) == uninterrupted[0]
        passing.close()
        assert [reader_process.line(batch) for batch in loader.epoch(0, start=3)] == uninterrupted[3:7]


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 40), batch_size=st.integers(1, 12), epoch=st.integers(0, 3), drop=st.booleans(),
    seed=st.integers(0, 5), data=st.data(),
)  # fmt: skip
def test_an_epoch_from_a_cursor_is_the_rest_of_the_whole(
    length: int, batch_size: int, epoch: int, drop: bool, seed: int, data: st.DataObject
) -> None:
    loader = Loader(
        Shapes(size=length, pixels=16), {}, LABEL, sampler=Shuffle(drop_last=drop), batch_size=batch_size, seed=seed
    )
    whole = [(batch.index, batch.ids) for batch in loader.epoch(epoch)]
    assert len(whole) == loader.count(epoch)
    ids = [id for _, batch in whole for id in batch]
    assert len(ids) == len(set(ids))
    if not drop:
        assert len(ids) == length
    start = data.draw(st.integers(0, len(whole)))
    assert [(batch.index, batch.ids) for batch in loader.epoch(epoch, start=start)] == whole[start:]


def run_reader(
    path: Path, workers: int, start: tuple[int, int], *, kill_after: int | None, more: Sequence[str] = ()
) -> None:
    """Runs the reading process, and kills it (SIGKILL) once it has written so many lines."""
    command = [sys.executable, str(SCRIPT), str(path), str(workers), "2", *map(str, start), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before = len(path.read_text().splitlines()) if path.exists() else 0
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None:
            assert time.monotonic() < deadline
            written = len(path.read_text().splitlines()) if path.exists() else 0
            if kill_after is not None and written - before >= kill_after:
                process.kill()
                process.wait(timeout=30)
                break
            time.sleep(0.002)
    if kill_after is None:
        assert process.returncode == 0


@pytest.mark.parametrize(("first", "second"), [(0, 2), (1, 0), (2, 1)])
def test_killed_in_an_epoch_and_resumed_gives_the_same(
    uninterrupted: list[str], tmp_path: Path, first: int, second: int
) -> None:
    path = tmp_path / "lines"
    run_reader(path, first, (0, 0), kill_after=4)
    # A line cut by the kill is a batch that was not done.
    kept = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    path.write_text("".join(kept))
    assert 4 <= len(kept) <= len(uninterrupted)
    run_reader(path, second, divmod(len(kept), 7), kill_after=None)
    assert path.read_text().splitlines() == uninterrupted


def children(pid: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            child = int(stat.parent.name)
            yield child
            yield from children(child)


def alive(pid: int) -> bool:
    """Whether a process runs (one that ended and was not yet collected has no command line)."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def test_a_stop_ends_the_workers_too(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    command = [sys.executable, str(SCRIPT), str(path), "2", "1000000", "0", "0"]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 60
        while not path.exists() or len(path.read_text().splitlines()) < 3:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        family = set(children(process.pid))
        assert len(family) >= 3
        process.terminate()
        assert process.wait(timeout=30) == -signal.SIGTERM
        while any(
            Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_what_goes_wrong_in_a_view_names_sample_view_and_cause() -> None:
    views = {"masked": View.model_validate({"of": "image", "apply": [{"use": "patch_mask", "patch": 5}]})}
    requests = [ColumnRequest("masked", Target("views", "masked"))]
    for workers in (0, 1):
        with (
            Loader(
                Shapes(size=8), views, requests, sampler=Sequential(), batch_size=4, seed=0, workers=workers
            ) as loader,
            pytest.raises(SampleError) as caught,
        ):
            list(loader.epoch(0))
        message = str(caught.value)
        for part in ("'shapes-0-train-0'", "'shapes'", "view 'masked'", "cannot be cut into patches of 5"):
            assert part in message
        assert "\n" not in message


def test_memory_is_read_here_even_with_workers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import fsspec

    url = f"memory://{tmp_path.name}/t.csv"
    with fsspec.open(url, "w") as file:
        file.write("text,label\n" + "\n".join(f"t{n},{n % 3}" for n in range(9)))  # type: ignore[union-attr]
    source = Table(url=url)
    (batch,) = scan(source, {}, LABEL, batch_size=9, workers=2)
    assert batch.columns["label"].values.tolist() == [n % 3 for n in range(9)]
    assert "is read here" in caplog.text


def test_loading_draws_nothing_from_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    lines(1, epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_scan_reads_all_once_in_order_and_draws_nothing() -> None:
    source = Shapes(size=10, pixels=24)
    batches = list(scan(source, reader_process.VIEWS, reader_process.REQUESTS, batch_size=4))
    assert [id for batch in batches for id in batch.ids] == [source.open().id(n) for n in range(10)]
    two = batches[0].columns["two"]
    assert two.axes == ("sample", "copy")
    assert two.values.shape == (4, 2, 3, 16, 16)
    assert torch.equal(two.values[:, 0], two.values[:, 1])
    assert batches[0].columns["words"].values == [source.open()[n]["caption"] for n in range(4)]


class Twice(Sampler):
    """Every sample twice in one batch, with a column of its own."""

    def batches(self, draw: Draw) -> Iterator[Any]:
        yield [0, 1, 0, 1], {"turn": torch.tensor([0, 0, 1, 1])}


def test_a_sample_that_comes_twice_in_a_batch_draws_again_and_samplers_add_fields() -> None:
    requests = [*reader_process.REQUESTS, ColumnRequest("turn", Target("sampler", "turn"))]
    loader = Loader(Shapes(size=2, pixels=24), reader_process.VIEWS, requests, sampler=Twice(), batch_size=4, seed=0)
    (batch,) = loader.epoch(0)
    two = batch.columns["two"].values
    assert len({tensor.numpy().tobytes() for tensor in two.flatten(0, 1)}) == 8
    assert batch.columns["turn"].values.tolist() == [0, 0, 1, 1]
    assert batch.ids[0] == batch.ids[2]


def test_one_copy_of_a_view_is_that_of_the_whole() -> None:
    requests = [ColumnRequest("both", Target("views", "two")), ColumnRequest("second", Target("views", "two", index=1))]
    loader = Loader(Shapes(size=5, pixels=24), reader_process.VIEWS, requests, sampler=Shuffle(), batch_size=5, seed=0)
    (batch,) = loader.epoch(0)
    assert torch.equal(batch.columns["both"].values[:, 1], batch.columns["second"].values)
    assert batch.columns["second"].axes == ("sample",)


def test_views_stand_on_views_and_on_fields_of_their_own_name() -> None:
    views: Mapping[str, View] = {
        "image": View.model_validate({"of": "image", "apply": [{"use": "resize", "size": [12, 12]}]}),
        "two": View.model_validate({"of": "image", "copies": 2, "apply": [{"use": "random_resized_crop", "size": 8}]}),
        "gray": View.model_validate({"of": "two", "apply": [{"use": "gray", "p": 1.0}]}),
        "same": View.model_validate({"of": "caption"}),
    }
    requests = [ColumnRequest(name, Target("views", name)) for name in views]
    loader = Loader(Shapes(size=3, pixels=24), views, requests, sampler=Shuffle(), batch_size=3, seed=0)
    (batch,) = loader.epoch(0)
    shapes = {name: tuple(batch.columns[name].values.shape) for name in ("image", "two", "gray")}
    assert shapes == {"image": (3, 3, 12, 12), "two": (3, 2, 3, 8, 8), "gray": (3, 2, 3, 8, 8)}
    gray = batch.columns["gray"].values
    assert torch.equal(gray[:, :, 0], gray[:, :, 1])
    weights = torch.tensor([0.299, 0.587, 0.114])
    assert torch.allclose((batch.columns["two"].values * weights[:, None, None]).sum(2), gray[:, :, 0], atol=1 / 255)
    assert all(isinstance(text, str) for text in batch.columns["same"].values)
    four = {**views, "four": View.model_validate({"of": "two", "copies": 2})}
    with pytest.raises(ComponentError, match="copies of a view that has 2"):
        Loader(Shapes(size=3), four, [ColumnRequest("four", Target("views", "four"))], sampler=Shuffle(), batch_size=3,
               seed=0)  # fmt: skip


class Counted(Shapes, name="counted_shapes"):
    """A source that counts what is asked of it."""

    _asked: Counter[str] = PrivateAttr(default_factory=Counter)

    def open(self) -> Any:
        reader, asked = super().open(), self._asked

        class Reader:
            def __len__(self) -> int:
                return len(reader)

            def id(self, index: int) -> str:
                asked["id"] += 1
                return reader.id(index)

            def read(self, index: int, fields: Any = None) -> Any:
                asked["read"] += 1
                return reader.read(index, fields)

            def static(self) -> Mapping[str, Any]:
                return reader.static()

        return Reader()


def test_a_world_of_a_million_samples_asks_for_one_batch_only() -> None:
    source = Counted(size=1_000_000, pixels=16)
    loader = Loader(source, {}, LABEL, sampler=Shuffle(), batch_size=32, seed=0)
    assert loader.count(0) == 31_250
    assert source._asked == {}
    begun = loader.epoch(0, start=31_000)
    assert source._asked == {}
    first = next(begun)
    assert (first.index, first.size) == (31_000, 32)
    assert source._asked == {"id": 32, "read": 32}
    order = next(iter(Shuffle().batches(Draw(1_000_000, 32, 0, 0))))
    assert [f"counted_shapes-0-train-{n}" for n in order] == next(loader.epoch(0)).ids


def test_tasks_are_drawn_as_they_are_needed() -> None:
    """An epoch of a million samples is no list of tasks."""
    taken: list[int] = []

    class Watched(Sampler):
        def batches(self, draw: Draw) -> Iterator[Any]:
            for start in range(0, draw.length, draw.batch_size):
                taken.append(start)
                yield range(start, start + draw.batch_size)

    loader = Loader(Shapes(size=1_000_000, pixels=16), {}, LABEL, sampler=Watched(), batch_size=10, seed=0)
    next(loader.epoch(0))
    assert len(taken) == 1


def test_time_spent_waiting_is_counted() -> None:
    loader = Loader(Digits(), {}, [ColumnRequest("image", Target("fields", "image"))], sampler=Shuffle(),
                    batch_size=64, seed=0)  # fmt: skip
    begun = time.perf_counter()
    for _ in loader.epoch(0):
        pass
    assert 0 < loader.waited <= time.perf_counter() - begun


def test_replaced_words_follow_their_table() -> None:
    words = {"red": ("crimson",), "circle": ("disc", "round")}
    views = {"words": View(of=("caption",), apply=(ReplaceWords(table=words, p=1.0),))}  # type: ignore[arg-type]
    source = Shapes(size=200, pixels=16)
    requests = [ColumnRequest("words", Target("views", "words"))]
    loader = Loader(source, views, requests, sampler=Sequential(), batch_size=200, seed=0)
    (batch,) = loader.epoch(0)
    changed = batch.columns["words"].values
    for index, text in enumerate(changed):
        before = source.open()[index]["caption"].split()
        for old, new in zip(before, text.split(), strict=True):
            assert new in words.get(old, (old,))
    assert {word for text in changed for word in text.split()} >= {"crimson", "disc", "round"}


def test_a_type_can_be_asked_for_before_anything_is_read() -> None:
    types = ViewTypes(reader_process.VIEWS, Shapes(pixels=24).fields())
    assert types.column(Target("views", "two")) == TensorType(
        "image", ("sample", "copy"), (16, 16, 3), "uint8", groups=(2,)
    )
    with pytest.raises(KeyError, match="no copy 2"):
        types.column(Target("views", "two", index=2))


def test_images_that_no_sample_has_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,caption\n,a\n,b\n")
    source = Table.model_validate(
        {"url": str(tmp_path / "t.csv"), "columns": {"image": {"modality": "image"}, "caption": "caption"}}
    )
    requests = [ColumnRequest(name, Target("fields", name)) for name in ("image", "caption")]
    with pytest.raises(SampleError, match="no sample of the data has 'image'"):
        list(scan(source, {}, requests, batch_size=2))
