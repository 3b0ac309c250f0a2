"""Bank and statistics: three steps worked out by hand, whatever the order of ids, and the same on the disk."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_memories.bank import Bank
from mmflow_memories.modules import Recalled
from mmflow_memories.statistics import Statistics
from torch import Tensor

from mmflow.plugin import ComponentError, Encoding, TensorType, address

Z = {"value": TensorType("vector", size=(2,), dtype="float64")}
X = {"value": TensorType("number", dtype="float64")}


def vectors(*rows: tuple[float, float]) -> dict[str, Tensor]:
    return {"value": torch.tensor(rows, dtype=torch.float64)}


def numbers(*rows: float) -> dict[str, Tensor]:
    return {"value": torch.tensor(rows, dtype=torch.float64)}


def found(read: dict[str, Encoding], column: str, id: str) -> list[float] | float:
    place = read["id"].pooled.tolist().index(address(id))
    return read[column].pooled[place].tolist()


def bank(**fields: object) -> Bank:
    return Bank(of={"value": "z"}, **fields)  # type: ignore[arg-type]


def test_a_bank_by_hand() -> None:
    """momentum 0.5: m becomes half of itself and half of what comes; a and b are met twice, c once."""
    made = bank(size=3)
    state = made.initial(Z, generator=torch.Generator())
    assert made.read(state) is None
    state = made.update(state, vectors((2, 0), (0, 4)), ["a", "b"], 0.5)
    state = made.update(state, vectors((0, 0), (1, 1)), ["b", "c"], 0.5)
    state = made.update(state, vectors((4, 2)), ["a"], 0.5)
    read = made.read(state)
    assert [found(read, "value", id) for id in "abc"] == [[3, 1], [0, 2], [1, 1]]
    assert read["value"].present is None


def test_a_sample_that_a_batch_has_twice_is_mixed_in_twice() -> None:
    made = bank(size=2)
    state = made.initial(Z, generator=torch.Generator())
    state = made.update(state, vectors((8, 0), (0, 8), (0, 0)), ["a", "b", "a"], 0.75)
    state = made.update(state, vectors((0, 0), (4, 4)), ["a", "a"], 0.75)
    read = made.read(state)
    # a: 8, then 3/4 of it (6), then 4.5, then 3/4 * 4.5 + 1/4 * 4.
    assert found(read, "value", "a") == [4.375, 1.0]
    assert found(read, "value", "b") == [0, 8]


def test_a_bank_of_unit_vectors_by_hand() -> None:
    made = bank(size=1, normalize=True)
    state = made.initial(Z, generator=torch.Generator())
    state = made.update(state, vectors((5, 0)), ["a"], 0.5)
    state = made.update(state, vectors((0, 2)), ["a"], 0.5)
    read = made.read(state)
    torch.testing.assert_close(torch.tensor(found(read, "value", "a")), torch.tensor([0.5**0.5, 0.5**0.5]))


def test_random_rows_are_mixed_with_the_first_that_comes() -> None:
    made = bank(size=2, fill="random")
    state = made.initial(Z, generator=torch.Generator().manual_seed(0))
    begin = state["column.value"][0].clone()
    read = made.read(made.update(state, vectors((1, 1)), ["a"], 0.5))
    torch.testing.assert_close(torch.tensor(found(read, "value", "a"), dtype=torch.float64), 0.5 * begin + 0.5)
    assert read["value"].present is None


def test_whole_numbers_are_replaced() -> None:
    made = bank(size=2)
    state = made.initial({"value": TensorType("label", dtype="int64")}, generator=torch.Generator())
    state = made.update(state, {"value": torch.tensor([3, 4])}, ["a", "b"], 0.5)
    read = made.read(made.update(state, {"value": torch.tensor([7])}, ["b"], 0.5))
    assert [found(read, "value", id) for id in "ab"] == [3, 7]


@pytest.mark.parametrize("made", [bank(size=2), Statistics(of={"value": "z"}, size=2)], ids=["bank", "statistics"])  # type: ignore[arg-type]
def test_more_samples_than_places_are_refused(made: Bank | Statistics) -> None:
    state = made.initial(Z, generator=torch.Generator())
    with pytest.raises(ComponentError, match="no place for further samples"):
        made.update(state, vectors((1, 1), (2, 2), (3, 3)), ["a", "b", "c"], 0.5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=6), min_size=1, max_size=6), st.booleans())
def test_a_bank_is_a_dictionary_in_memory_and_on_the_disk(batches: list[list[int]], after: bool) -> None:
    """`kept` puts the state on the disk between steps, or `after` every second one only."""
    made, near = bank(size=9, in_memory=0), bank(size=9)
    draw = torch.Generator().manual_seed(1)
    held: dict[str, Tensor] = {}
    state = dict(made.kept(made.initial(Z, generator=draw)))
    other = near.initial(Z, generator=draw)
    for number, batch in enumerate(batches):
        z, ids = torch.randn(len(batch), 2, generator=draw, dtype=torch.float64), [str(id) for id in batch]
        before = made.read(state)
        begun = None if before is None else before["value"].pooled.clone()
        next_state = made.update(state, {"value": z}, ids, 0.25)
        if before is not None:
            torch.testing.assert_close(made.read(state)["value"].pooled, begun, rtol=0, atol=0)
        read = made.read(next_state)
        state = next_state if after and number % 2 else dict(made.kept(next_state))
        other = near.update(other, {"value": z}, ids, 0.25)
        for id, row in zip(ids, z, strict=True):
            held[id] = row if id not in held else 0.25 * held[id] + 0.75 * row
        for seen in (read, made.read(state), near.read(other)):
            for id, row in held.items():
                torch.testing.assert_close(torch.tensor(found(seen, "value", id), dtype=torch.float64), row)
            present = seen["value"].present
            assert (9 if present is None else int(present.sum())) == len(held)


def test_statistics_by_hand() -> None:
    """a sees 1, 3, 8: mean 4, variance 26/3; b sees 5 alone."""
    made = Statistics(of={"value": "x"}, size=4)  # type: ignore[arg-type]
    state = made.initial(X, generator=torch.Generator())
    state = made.update(state, numbers(1, 5), ["a", "b"], 0.9)
    state = made.update(state, numbers(3), ["a"], 0.9)
    state = made.update(state, numbers(8), ["a"], 0.9)
    read = made.read(state)
    assert found(read, "value", "a") == pytest.approx(4)
    assert found(read, "value.std", "a") == pytest.approx((26 / 3) ** 0.5)
    assert [found(read, f"value.{name}", "a") for name in ("last", "min", "max")] == [8, 1, 8]
    assert [found(read, name, "b") for name in ("value", "value.std", "count")] == [5, 0, 1]
    assert read["value"].present.tolist() == [True, True, False, False]


def test_recent_statistics_by_hand() -> None:
    """Half of each step: the mean goes 0, 2, 3; the variance 0, 4 / 2 * ... as in West (1979)."""
    made = Statistics(of={"value": "x"}, size=1, over="recent")  # type: ignore[arg-type]
    state = made.initial(X, generator=torch.Generator())
    for x in (0.0, 4.0, 4.0):
        state = made.update(state, numbers(x), ["a"], 0.5)
    read = made.read(state)
    # After 4: mean 2, variance 0.5 * (0 + 0.5 * 16) = 4; after 4 again: mean 3, variance 0.5 * (4 + 0.5 * 4) = 3.
    assert found(read, "value", "a") == pytest.approx(3)
    assert found(read, "value.std", "a") == pytest.approx(3**0.5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.floats(-9, 9)), min_size=1, max_size=6), max_size=5))
def test_statistics_are_those_of_all_visits(batches: list[list[tuple[int, float]]]) -> None:
    made = Statistics(of={"value": "x"}, size=4)  # type: ignore[arg-type]
    state = made.initial(X, generator=torch.Generator())
    seen: dict[str, list[float]] = {}
    for batch in batches:
        state = made.update(state, numbers(*(x for _, x in batch)), [str(id) for id, _ in batch], 0.9)
        for id, x in batch:
            seen.setdefault(str(id), []).append(x)
    read = made.read(state)
    for id, values in seen.items():
        every = torch.tensor(values, dtype=torch.float64)
        expected = [every.mean(), every.std(correction=0), every[-1], every.min(), every.max(), len(every)]
        names = ("value", "value.std", "value.last", "value.min", "value.max", "count")
        assert [found(read, name, id) for name in names] == pytest.approx([float(x) for x in expected], abs=1e-6)


def test_recall_finds_the_rows_of_a_batch() -> None:
    module = Recalled((2,), "float64")
    keys = torch.tensor([address("b"), address("a"), -1])
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]])
    read = module(["a", "z", "b", "a"], Encoding({"pooled": rows}), Encoding({"pooled": keys}))
    assert read["pooled"].tolist() == [[3, 4], [0, 0], [1, 2], [3, 4]]
    assert read["known"].tolist() == [1, 0, 1, 1]
    nothing = module(["a", "z"], None, None)
    assert nothing["pooled"].tolist() == [[0, 0], [0, 0]]
    assert nothing["known"].tolist() == [0, 0]
