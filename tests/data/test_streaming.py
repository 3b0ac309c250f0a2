"""Sources that are read from front to back: the same batches for any number of workers, from any cursor."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_samplers.repeated import Repeated
from mmflow_samplers.sequential import Sequential
from mmflow_samplers.shuffle import Shuffle
from pydantic import PrivateAttr

from mmflow.data import ColumnRequest, Loader, scan
from mmflow.data.shards import RoundRobin
from mmflow.plugin import ComponentError, SampleError, SkippedSample, Source, Streaming, TensorType
from mmflow.plugin.targets import Target

pytestmark = pytest.mark.process

SIZES = [11, 8, 14, 9, 13, 6, 12]
"""Samples of the shards: 73 in all, so that partitions end at different places."""


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader_process = _module("reader_process")
run_reader: Callable[..., None] = _module("test_loading").run_reader


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return reader_process.write_shards(tmp_path_factory.mktemp("shards"), SIZES)


def lines(shards: str, workers: int, epochs: int = 2, start: tuple[int, int] = (0, 0)) -> list[str]:
    out = []
    with reader_process.loader(workers, shards=shards) as loader:
        for epoch in range(start[0], epochs):
            begin = start[1] if epoch == start[0] else 0
            out.extend(reader_process.line(batch) for batch in loader.epoch(epoch, start=begin))
    return out


@pytest.fixture(scope="module")
def uninterrupted(shards: str) -> list[str]:
    return lines(shards, 0)


def of_epoch(found: list[str], epoch: int) -> list[str]:
    return [line for line in found if line.startswith(f"{epoch} ")]


def ids_of(line: str) -> list[str]:
    return line.split()[2].split(",")


def test_batches_mix_shards_and_epochs_differ(uninterrupted: list[str]) -> None:
    first, second = of_epoch(uninterrupted, 0), of_epoch(uninterrupted, 1)
    assert [line.split()[1] for line in first] == [str(n) for n in range(len(first))]
    ends = [sum(SIZES[: n + 1]) for n in range(len(SIZES))]
    of_shard = [{sum(int(id) >= end for end in ends) for id in ids_of(line)} for line in first]
    assert sum(len(mixed) > 1 for mixed in of_shard) > len(first) / 2
    assert [ids_of(line) for line in first] != [ids_of(line) for line in second]
    for found in (first, second):
        ids = [id for line in found for id in ids_of(line)]
        assert len(set(ids)) == len(ids)
        # Four partitions leave out less than a batch each.
        assert sum(SIZES) - 4 * 5 <= len(ids) <= sum(SIZES)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing_of_a_stream(uninterrupted: list[str], shards: str, workers: int) -> None:
    assert lines(shards, workers) == uninterrupted


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_goes_on_from_every_place(uninterrupted: list[str], shards: str, workers: int) -> None:
    first = of_epoch(uninterrupted, 0)
    with reader_process.loader(workers, shards=shards) as loader:
        for start in range(len(first) + 1):
            assert [reader_process.line(batch) for batch in loader.epoch(0, start=start)] == first[start:]


@pytest.mark.parametrize(
    ("first", "second", "where"),
    [
        (0, 2, "in the middle"), (1, 0, "in the middle"), (2, 1, "in the middle"),
        (2, 0, "at the end of an epoch"),
    ],
)  # fmt: skip
def test_killed_in_a_stream_and_resumed_gives_the_same(
    uninterrupted: list[str], shards: str, tmp_path: Path, first: int, second: int, where: str
) -> None:
    path = tmp_path / "lines"
    per_epoch = len(of_epoch(uninterrupted, 0))
    run_reader(path, first, (0, 0), kill_after=5 if where == "in the middle" else per_epoch, more=[shards])
    kept = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    if where == "at the end of an epoch":
        kept = kept[:per_epoch]
    path.write_text("".join(kept))
    done = len(kept)
    cursor = (0, done) if done <= per_epoch else (1, done - per_epoch)
    run_reader(path, second, cursor, kill_after=None, more=[shards])
    assert path.read_text().splitlines() == uninterrupted


def test_scanning_a_stream_reads_all_once_in_order(shards: str) -> None:
    source = reader_process.streamed(shards)
    for workers in (0, 2):
        batches = list(scan(source, {}, [ColumnRequest("label", Target("fields", "label"))], batch_size=10,
                            workers=workers))  # fmt: skip
        assert [int(id) for batch in batches for id in batch.ids] == list(range(sum(SIZES)))
        assert [batch.size for batch in batches] == [10] * 7 + [3]
        assert batches[1].columns["label"].values.tolist() == [n % 3 for n in range(10, 20)]


# --- partitions of any source --------------------------------------------------------------------------------


class Numbers(Source, name="numbers_in_shards"):
    """Shards of numbers, which tell what was asked of them."""

    sizes: tuple[int, ...]
    bad: tuple[int, ...] = ()
    stream: Streaming
    _asked: Counter[str] = PrivateAttr(default_factory=Counter)

    def fields(self) -> Mapping[str, TensorType]:
        return {"number": TensorType("number")}

    def streaming(self) -> Streaming:
        return self.stream

    def open(self) -> NumbersReader:
        return NumbersReader(self)


class NumbersReader:
    def __init__(self, source: Numbers) -> None:
        self.source = source

    def shards(self) -> list[str]:
        return [str(n) for n in range(len(self.source.sizes))]

    def shard(self, number: int, fields: Collection[str]) -> Iterator[tuple[str, Any]]:
        self.source._asked["shards"] += 1
        start = sum(self.source.sizes[:number])
        for value in range(start, start + self.source.sizes[number]):
            self.source._asked["raw"] += 1
            yield str(value), value

    def decode(self, id: str, raw: Any, fields: Collection[str]) -> Mapping[str, Any]:
        self.source._asked["decoded"] += 1
        if raw in self.source.bad:
            raise SkippedSample(f"{raw} is bad")
        return {"number": raw}

    def static(self) -> Mapping[str, Any]:
        return {}


NUMBER = [ColumnRequest("number", Target("fields", "number"))]


def numbers(sizes: list[int], **fields: Any) -> Numbers:
    stream = {name: fields.pop(name) for name in ("partitions", "open", "buffer", "samples") if name in fields}
    return Numbers.model_validate({"sizes": sizes, "stream": stream, **fields})


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=9), partitions=st.integers(1, 5), open=st.integers(1, 3),
    buffer=st.integers(1, 9), batch_size=st.integers(1, 7), epoch=st.integers(0, 2), drop=st.booleans(), data=st.data(),
)  # fmt: skip
def test_a_stream_from_a_cursor_is_the_rest_of_the_whole(
    sizes: list[int],
    partitions: int,
    open: int,
    buffer: int,
    batch_size: int,
    epoch: int,
    drop: bool,
    data: st.DataObject,
) -> None:
    source = numbers(sizes, partitions=partitions, open=open, buffer=buffer)

    def loader() -> Loader:
        return Loader(source, {}, NUMBER, sampler=Shuffle(drop_last=drop), batch_size=batch_size, seed=1)

    whole = [(batch.index, batch.ids) for batch in loader().epoch(epoch)]
    seen = [id for _, ids in whole for id in ids]
    assert len(set(seen)) == len(seen)
    missing = sum(sizes) - len(seen)
    assert (0 <= missing <= min(partitions, len(sizes)) * (batch_size - 1)) if drop else missing == 0
    assert [index for index, _ in whole] == list(range(len(whole)))
    start = data.draw(st.integers(0, len(whole)))
    assert [(batch.index, batch.ids) for batch in loader().epoch(epoch, start=start)] == whole[start:]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.data())
def test_rounds_know_the_place_of_every_batch(counts: list[int], data: st.DataObject) -> None:
    rounds = RoundRobin(len(counts))
    rounds.ended.update(enumerate(counts))
    order = [(turn, partition) for turn in range(max(counts)) for partition, count in enumerate(counts) if turn < count]
    assert [rounds.place(batches) for batches in range(len(order))] == order
    unknown = data.draw(st.integers(0, len(counts) - 1))
    del rounds.ended[unknown]
    upto = order.index((counts[unknown] - 1, unknown)) + 1 if counts[unknown] else 0
    assert [rounds.place(batches) for batches in range(upto)] == order[:upto]


def test_shards_are_opened_once_an_epoch_and_skipped_undecoded() -> None:
    source = numbers([20] * 6, partitions=3, open=2, buffer=5)
    loader = Loader(source, {}, NUMBER, sampler=Shuffle(), batch_size=4, seed=0)
    whole = list(loader.epoch(0))
    assert source._asked == {"shards": 6, "raw": 120, "decoded": 120}
    source._asked.clear()
    rest = list(Loader(source, {}, NUMBER, sampler=Shuffle(), batch_size=4, seed=0).epoch(0, start=25))
    assert len(rest) == len(whole) - 25
    assert source._asked == {"shards": 6, "raw": 120, "decoded": 4 * len(rest)}


def test_opening_a_large_stream_reads_nothing_and_a_batch_little() -> None:
    source = numbers([10_000] * 100, partitions=8, open=2, buffer=50)
    loader = Loader(source, {}, NUMBER, sampler=Shuffle(), batch_size=32, seed=0)
    assert not source._asked
    next(loader.epoch(0))
    assert source._asked["raw"] < 200


def test_sequential_sampling_of_a_stream_keeps_its_order() -> None:
    source = numbers([5, 0, 7], partitions=3)
    loader = Loader(source, {}, NUMBER, sampler=Sequential(drop_last=False), batch_size=4, seed=0)
    assert [batch.ids for batch in loader.epoch(3)] == [["0", "1", "2", "3"], ["4", "5", "6", "7"],
                                                       ["8", "9", "10", "11"]]  # fmt: skip


def test_bad_samples_of_a_stream_leave_the_others_where_they_are() -> None:
    sizes = [30, 30, 30]
    good = list(Loader(numbers(sizes), {}, NUMBER, sampler=Shuffle(), batch_size=10, seed=0).epoch(0))
    loader = Loader(numbers(sizes, bad=(3, 44, 45)), {}, NUMBER, sampler=Shuffle(), batch_size=10, seed=0)
    found = list(loader.epoch(0))
    assert [[id for id in batch.ids if id not in ("3", "44", "45")] for batch in good] == [b.ids for b in found]
    assert loader.skipped == {id: f"{id} is bad" for id in ("3", "44", "45")}


def test_a_batch_of_bad_samples_alone_is_left_out() -> None:
    source = numbers([4, 4, 4], partitions=3, bad=tuple(range(4, 8)))
    whole = list(Loader(source, {}, NUMBER, sampler=Shuffle(), batch_size=4, seed=0).epoch(0))
    assert sorted(id for batch in whole for id in batch.ids) == sorted(str(n) for n in (0, 1, 2, 3, 8, 9, 10, 11))
    # The next batch after the first of them stands behind its index, whether one between them was left out or not.
    loader = Loader(source, {}, NUMBER, sampler=Shuffle(), batch_size=4, seed=0)
    assert [batch.ids for batch in loader.epoch(0, start=whole[0].index + 1)] == [whole[1].ids]
    last = numbers([4, 4], partitions=2, bad=tuple(range(8)))
    assert list(Loader(last, {}, NUMBER, sampler=Shuffle(), batch_size=4, seed=0).epoch(0, start=1)) == []
    with pytest.raises(SampleError, match="every sample of every batch is left out"):
        list(Loader(numbers([4], bad=(0, 1, 2, 3)), {}, NUMBER, sampler=Shuffle(), batch_size=4, seed=0).epoch(0))


def test_how_long_a_stream_is() -> None:
    loader = Loader(numbers([10] * 4), {}, NUMBER, sampler=Shuffle(), batch_size=4, seed=0)
    assert loader.count(0) is None
    with pytest.raises(ComponentError, match="not known before it is read"):
        loader.steps(2)
    loader = Loader(numbers([10] * 4, samples=40), {}, NUMBER, sampler=Shuffle(), batch_size=4, seed=0)
    assert (loader.count(0), loader.steps(2.5)) == (10, 25)


def test_a_sampler_that_needs_random_access_is_refused() -> None:
    with pytest.raises(ComponentError, match=r"sampler repeated needs random access.*numbers_in_shards"):
        Loader(numbers([4]), {}, NUMBER, sampler=Repeated(), batch_size=2, seed=0)


def test_what_stops_a_shard_is_said_with_its_source() -> None:
    class Stalled(NumbersReader):
        def shard(self, number: int, fields: Collection[str]) -> Iterator[tuple[str, Any]]:
            yield from super().shard(number, fields)
            raise OSError("the server is gone")

    class Remote(Numbers, name="remote_numbers"):
        def open(self) -> NumbersReader:
            return Stalled(self)

    source = Remote.model_validate({"sizes": [4, 4], "stream": {"partitions": 1, "open": 1, "buffer": 1}})
    loader = Loader(source, {}, NUMBER, sampler=Shuffle(), batch_size=2, seed=0)
    with pytest.raises(
        SampleError, match=r"source 'remote_numbers', reading shards of partition 0: OSError: the server"
    ):
        list(loader.epoch(0))
