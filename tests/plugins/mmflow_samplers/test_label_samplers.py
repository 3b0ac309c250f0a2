"""Samplers that follow a column."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmflow_samplers.balanced import Balanced
from mmflow_samplers.episodes import Episodes
from mmflow_samplers.group_batches import GroupBatches
from mmflow_samplers.repeated import Repeated
from mmflow_synthetic.shapes import Shapes

from mmflow.data import ColumnRequest, Loader
from mmflow.plugin import ComponentError, Draw, Ref
from mmflow.plugin.targets import Target
from mmflow.spec import SpecError, load_text

LABELS = st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=5, max_size=60).filter(
    lambda labels: any(label is not None for label in labels)
)


BY: Any = Ref("color")


def drawn(sampler: Any, labels: list[Any], batch_size: int, epoch: int = 0) -> list[Any]:
    return list(sampler.batches(Draw(len(labels), batch_size, 1, epoch, {"by": labels})))


@given(LABELS, st.integers(1, 20))
def test_classes_are_in_balance(labels: list[int | None], batch_size: int) -> None:
    batches = drawn(Balanced(by=BY), labels, batch_size)
    assert len(batches) == Balanced(by=BY).count(Draw(len(labels), batch_size, 1, 0))
    classes = {label for label in labels if label is not None}
    for batch in batches:
        counts = Counter(labels[index] for index in batch)
        assert None not in counts
        assert len(batch) == batch_size
        sizes = [counts[label] for label in classes]
        assert max(sizes) - min(sizes) <= 1
    assert drawn(Balanced(by=BY), labels, batch_size) == batches


def test_members_of_a_class_come_in_turn() -> None:
    labels = [0] * 90 + [1] * 10
    batches = drawn(Balanced(by=BY), labels, 20)
    common = [index for batch in batches for index in batch if labels[index] == 0]
    rare = Counter(index for batch in batches for index in batch if labels[index] == 1)
    assert len(set(common)) == len(common) == 50
    assert set(rare.values()) == {5}
    assert drawn(Balanced(by=BY), labels, 20, epoch=1) != batches


def test_some_classes_and_unlabeled_samples() -> None:
    labels = [n % 10 for n in range(200)] + [None] * 100
    for batch in drawn(Balanced(by=BY, classes=4), labels, 32):
        assert sorted(Counter(labels[index] for index in batch).values()) == [8, 8, 8, 8]
        assert len(set(batch)) == 32
    for batch in drawn(Balanced(by=BY, unlabeled=10.0), labels, 40):
        assert sum(labels[index] is None for index in batch) == 20


@given(LABELS, st.integers(1, 12), st.booleans())
def test_a_batch_comes_from_one_group(labels: list[int | None], batch_size: int, drop: bool) -> None:
    sizes = Counter(label for label in labels if label is not None)
    if drop and max(sizes.values()) < batch_size:
        with pytest.raises(ComponentError, match="no group"):
            drawn(GroupBatches(by=BY, drop_last=drop), labels, batch_size)
        return
    batches = drawn(GroupBatches(by=BY, drop_last=drop), labels, batch_size)
    for batch in batches:
        assert len({labels[index] for index in batch}) == 1
        assert len(batch) == batch_size or not drop
    seen = [index for batch in batches for index in batch]
    assert len(set(seen)) == len(seen)
    assert len(seen) == sum(size - size % batch_size if drop else size for size in sizes.values())


def test_episodes_have_their_ways_shots_and_queries() -> None:
    source = Shapes(size=200, pixels=16)
    requests = [ColumnRequest(name, Target("sampler", name)) for name in ("label", "support", "query")]
    requests.append(ColumnRequest("truth", Target("fields", "color")))
    sampler = Episodes(by=BY, way=4, shot=2, query=3, episodes=7)
    loader = Loader(source, {}, requests, sampler=sampler, batch_size=1, seed=0)
    assert loader.count(0) == 7
    batches = list(loader.epoch(0))
    for batch in batches:
        columns = {key: column.values.numpy() for key, column in batch.columns.items()}
        assert batch.size == len(set(batch.ids)) == 20
        for label in range(4):
            rows = columns["label"] == label
            assert len(set(columns["truth"][rows])) == 1
            assert columns["support"][rows].sum() == 2
        assert len(set(columns["truth"])) == 4
        assert np.array_equal(columns["query"], ~columns["support"])
    assert [b.ids for b in loader.epoch(0, start=4)] == [b.ids for b in batches[4:]]
    with pytest.raises(ComponentError, match="8 classes have 5 samples, 9 are needed"):
        next(
            Loader(source, {}, requests, sampler=Episodes(by=BY, way=9, shot=2, query=3), batch_size=1, seed=0).epoch(0)
        )


def test_repeated_samples_stand_side_by_side() -> None:
    batches = drawn(Repeated(times=3), list(range(40)), 12)
    assert len(batches) == 3
    for batch in batches:
        assert set(Counter(batch).values()) == {3}
        assert len(batch) == 12


def test_batches_per_epoch_are_counted_where_a_column_decides() -> None:
    source = Shapes(size=100, pixels=16)
    requests = [ColumnRequest("label", Target("fields", "label"))]
    loader = Loader(source, {}, requests, sampler=GroupBatches(by=BY), batch_size=5, seed=0)
    assert loader.count(0) == len(list(loader.epoch(0))) == len(list(loader.epoch(3))) < 20


SPEC = """
mmflow: 1
name: episodes
data: {train: {use: shapes, size: 120, pixels: 16}}
encoders:
  z: {use: convnet4, of: image, width: 8}
  guess: {use: linear, of: z, dim: 4}
losses:
  group: {use: supcon, of: z, labels: sampler.label}
  classify: {use: cross_entropy, of: guess, labels: sampler.label, rows: sampler.query}
train:
  data: train
  epochs: 1.5
  sampler: {use: episodes, by: color, way: 4, shot: 1, query: 2, episodes: 4}
  log_every: 1
"""


def test_losses_read_what_the_sampler_adds(tmp_path: Path) -> None:
    from mmflow.flow.run import RunOptions, run_spec

    outcome = run_spec(load_text(SPEC), RunOptions(store=str(tmp_path), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    (history,) = tmp_path.rglob("history.jsonl")
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert len(lines) == 6
    assert all(np.isfinite(line["loss/group"]) and np.isfinite(line["loss/classify"]) for line in lines)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("sampler.query", "sampler.quary"), ["the sampler episodes adds no field `quary`", "query"]),
        (("sampler.query", "sampler.weight"), ["the sampler episodes adds no field `weight`", "label, support, query"]),
        (("{use: episodes, by: color, way: 4, shot: 1, query: 2, episodes: 4}", "shuffle"),
         ["the sampler shuffle adds no field `label`", "it adds none"]),
        (("by: color", "by: colr"), ["there is no `colr` here", "color"]),
    ],
)  # fmt: skip
def test_what_the_sampler_adds_is_checked_by_name(change: tuple[str, str], said: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        load_text(SPEC.replace(*change))
    messages = "\n".join(map(str, caught.value.problems))
    for words in said:
        assert words in messages


def test_a_stage_without_a_sampler_says_so() -> None:
    text = SPEC + "eval:\n  probe: {use: knn, data: train, of: z, labels: sampler.label}\n"
    with pytest.raises(SpecError, match=r"`sampler\.label`: this stage has no sampler"):
        load_text(text)
