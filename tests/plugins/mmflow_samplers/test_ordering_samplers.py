"""Samplers that follow lengths, difficulties and neighborhoods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmflow_samplers.curriculum import Curriculum
from mmflow_samplers.hard_neighbors import HardNeighbors
from mmflow_samplers.token_budget import TokenBudget

from mmflow.artifacts.cells import StoredRows, write_rows
from mmflow.data import Loader
from mmflow.data.joined import Joined, StoredColumn
from mmflow.plugin import ComponentError, Draw, Ref, Source, Target, TensorType
from mmflow.spec import SpecError, load_text

LENGTHS = st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=1, max_size=80).filter(
    lambda lengths: any(length is not None for length in lengths)
)
X: Any = Ref("x")


def drawn(sampler: Any, values: list[Any], batch_size: int, epoch: int = 0) -> list[list[int]]:
    (name,) = sampler.reads
    draw = Draw(len(values), batch_size, 1, epoch, {name: values})
    found = [list(batch) for batch in sampler.batches(draw)]
    assert sampler.count(draw) == len(found)
    assert found == [list(batch) for batch in sampler.batches(draw)]
    return found


# --- a budget of tokens ---------------------------------------------------------------------------------


@given(LENGTHS, st.integers(30, 100), st.integers(1, 20), st.integers(1, 40), st.integers(0, 2))
def test_no_batch_is_larger_than_its_budget(
    lengths: list[int | None], tokens: int, batch_size: int, window: int, epoch: int
) -> None:
    batches = drawn(TokenBudget(by=X, tokens=tokens, window=window), lengths, batch_size, epoch)
    seen = [place for batch in batches for place in batch]
    assert sorted(seen) == [place for place, length in enumerate(lengths) if length is not None]
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert len(batch) * max(max(1, lengths[place] or 0) for place in batch) <= tokens


def test_batches_of_a_window_are_of_like_lengths_and_full() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 4000).tolist()
    batches = drawn(TokenBudget(by=X, tokens=2000), lengths, 1000)
    padded = sum(len(batch) * max(lengths[p] for p in batch) for batch in batches)
    assert padded < 1.05 * sum(lengths)
    assert sum(lengths) > 0.9 * 2000 * len(batches)
    longest = [max(lengths[p] for p in batch) for batch in batches]
    assert longest != sorted(longest)
    assert drawn(TokenBudget(by=X, tokens=2000), lengths, 1000, epoch=1) != batches


def test_lengths_are_numbers_or_those_of_texts_and_series() -> None:
    sampler = TokenBudget(by=X, tokens=6, window=100)
    for values in ([3, 3, 2, 1], ["abc", "def", "gh", "i"], [np.zeros((n, 2)) for n in (3, 3, 2, 1)], [2.2, 3.0, 2, 1]):
        assert sorted(len(batch) for batch in drawn(sampler, values, 10)) == [2, 2]


def test_a_sample_beyond_the_budget() -> None:
    with pytest.raises(ComponentError, match="sample number 1 has the length 9, more than the budget of 5") as caught:
        drawn(TokenBudget(by=X, tokens=5), [1, 9, 2], 4)
    assert "skip_longer" in caught.value.hint
    assert drawn(TokenBudget(by=X, tokens=5, skip_longer=True), [1, 9, 2], 4) == [[0, 2]]
    with pytest.raises(ComponentError, match="no sample has a length"):
        drawn(TokenBudget(by=X, tokens=5), [None, None], 4)


# --- from easy to hard ----------------------------------------------------------------------------------


@given(
    st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=60).filter(
        lambda values: any(value is not None for value in values)
    ),
    st.integers(1, 12), st.floats(0.05, 1), st.integers(1, 6), st.integers(0, 8), st.sampled_from(["linear", "root"]),
    st.booleans(),
)  # fmt: skip
def test_the_easiest_take_part_first(
    values: list[float | None], batch_size: int, start: float, epochs: int, epoch: int, pacing: Any, turned: bool
) -> None:
    sampler = Curriculum(
        by=X, start=start, epochs=epochs, pacing=pacing, hardest_first=turned, drop_last=False
    )  # fmt: skip
    seen = [place for batch in drawn(sampler, values, batch_size, epoch) for place in batch]
    known = [place for place, value in enumerate(values) if value is not None]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(known)
    assert len(seen) == pytest.approx(sampler.share(epoch) * len(known), abs=1)
    sign = -1 if turned else 1
    left = set(known) - set(seen)
    if left and seen:
        assert max(sign * (values[p] or 0) for p in seen) <= min(sign * (values[p] or 0) for p in left)
    if epoch >= epochs:
        assert sorted(seen) == known
    assert sampler.share(epoch) <= sampler.share(epoch + 1) <= 1


def test_pacing_by_hand() -> None:
    linear = Curriculum(by=X, start=0.2, epochs=4)
    assert [round(linear.share(epoch), 6) for epoch in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    root = Curriculum(by=X, start=0.2, epochs=4, pacing="root")
    assert root.share(1) == pytest.approx((0.04 + 0.96 / 4) ** 0.5)


# --- near neighbors ------------------------------------------------------------------------------------


@given(
    st.integers(1, 60), st.integers(1, 10), st.one_of(st.none(), st.integers(2, 6)), st.integers(2, 30),
    st.integers(0, 2), st.sampled_from(["cosine", "euclidean"]),
)  # fmt: skip
def test_every_sample_comes_once(
    count: int, batch_size: int, group: int | None, pool: int, epoch: int, distance: Any
) -> None:
    rng = np.random.default_rng(count)
    vectors = [None if n % 7 == 3 else rng.normal(size=3).astype(np.float32) for n in range(count)]
    sampler = HardNeighbors(of=X, group=group, pool=pool, distance=distance)
    batches = drawn(sampler, vectors, batch_size, epoch)
    seen = [place for batch in batches for place in batch]
    assert len(set(seen)) == len(seen)
    there = sum(vector is not None for vector in vectors)
    assert len(seen) == (there - there % batch_size if there >= batch_size else there)
    assert all(vectors[place] is not None for place in seen)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_batches_hold_neighbors(distance: Any) -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(20, 8)) * 5
    vectors = [(centers[n % 20] + rng.normal(size=8) * 0.1).astype(np.float32) for n in range(400)]
    for batch in drawn(HardNeighbors(of=X, distance=distance), vectors, 20):
        assert len({place % 20 for place in batch}) == 1
    for batch in drawn(HardNeighbors(of=X, group=5, distance=distance), vectors, 20):
        groups = [{place % 20 for place in batch[start : start + 5]} for start in range(0, 20, 5)]
        assert all(len(group) == 1 for group in groups)
    first, second = (drawn(HardNeighbors(of=X, group=5), vectors, 20, epoch) for epoch in (0, 1))
    assert first != second


# --- in a run -------------------------------------------------------------------------------------------

SPEC = """
mmflow: 1
name: neighbors
data: {train: {use: shapes, size: 60, pixels: 16}}
encoders:
  image: {use: convnet4, of: image, width: 8}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, length: 12, head: {use: linear, dim: 8}}
  small: {use: linear, of: image, dim: 8}
losses:
  align: {use: infonce, of: [small, text]}
stages:
  first: {use: train, data: train, steps: 2, batch_size: 10}
  feats: {use: embed, data: train, of: small, model: first}
  second: {use: train, data: train, steps: 7, batch_size: 10, sampler: SAMPLER}
"""


def test_a_stages_column_orders_the_batches(tmp_path: Path) -> None:
    from mmflow.flow.run import RunOptions, run_spec

    text = SPEC.replace("SAMPLER", "{use: hard_neighbors, of: feats.small, group: 5}")
    options = RunOptions(store=str(tmp_path), engine="local", device="cpu")
    outcome = run_spec(load_text(text), options)
    assert outcome.exit_code == 0, outcome.outcome.notes
    assert list(outcome.outcome.stages) == ["first", "feats", "second"]
    assert [stage.inputs for stage in outcome.plan][2] == ("first", "feats")
    # Other features are another order: the stage depends on their content.
    other = text.replace("of: small, model: first}", "of: small, model: first, normalize: true}")
    other = load_text(other.replace("of: feats.small", "of: feats"))
    again = run_spec(other, options)
    assert again.outcome.stages == {"first": "cached", "feats": "done", "second": "done"}
    histories = {path.read_text() for path in tmp_path.rglob("history.jsonl")}
    assert all(json.loads(line)["loss"] > 0 for text in histories for line in text.splitlines())


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        ("{use: hard_neighbors, of: feats.image}", ["the stage feats gives no `image`", "small"]),
        (
            "{use: hard_neighbors, of: first}",
            ["`first`, a stage's model", "a stage's column"],
        ),
        ("{use: hard_neighbors, of: nothing}", ["there is no `nothing` here"]),
        ("{use: hard_neighbors, of: image}", ["the sampler hard_neighbors cannot go by `image`", "vector"]),
        ("{use: balanced, by: image}", ["the sampler balanced cannot go by `image`", "found image, expected label"]),
        ("{use: curriculum, by: caption, epochs: 3}", ["curriculum cannot go by `caption`", "number or label"]),
        ("{use: balanced}", ["sampler balanced needs `by`"]),
        ("{use: hard_neighbors, of: first.small}", ["first"]),
    ],
)
def test_what_a_sampler_cannot_go_by_is_said_at_check_time(sampler: str, said: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        load_text(SPEC.replace("SAMPLER", sampler))
    messages = "\n".join(map(str, caught.value.problems))
    for words in said:
        assert words in messages
    assert len(caught.value.problems) == 1


VECTOR = TensorType("vector", size=(1,))


def test_a_column_of_other_samples_is_refused(tmp_path: Path) -> None:
    shapes = Source.accept({"use": "shapes", "size": 5, "pixels": 16})
    write_rows(tmp_path / "column.parquet", ["other"], {"value": [[1.0]]}, {"value": VECTOR})
    column = StoredColumn(StoredRows(tmp_path / "column.parquet"), VECTOR)
    source = Joined(of=shapes, columns={"feats.small": column})
    sampled = {"of": Target("fields", "feats.small")}
    with pytest.raises(Exception, match="knows no sample of source 'shapes'"):
        Loader(source, {}, [], sampler=HardNeighbors(of=X), batch_size=2, seed=0, sampled=sampled)


def test_epochs_of_different_lengths_train_to_the_end(tmp_path: Path) -> None:
    from mmflow.flow.run import RunOptions, run_spec

    text = SPEC.replace("SAMPLER", "{use: curriculum, by: label, start: 0.34, epochs: 2}").replace(
        "steps: 7, batch_size: 10", "epochs: 3, batch_size: 10")  # fmt: skip
    outcome = run_spec(load_text(text), RunOptions(store=str(tmp_path), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    steps = sorted(json.loads(path.read_text())["steps"] for path in tmp_path.rglob("train.json"))
    # 21, 41 and 60 of 60 samples.
    assert steps == [2, 2 + 4 + 6]
