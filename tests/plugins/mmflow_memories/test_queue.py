"""The queue against a plain list, whatever arrives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_memories.queue import Queue

from mmflow.plugin import ComponentError, TensorType

COLUMNS = {"key": TensorType("vector", size=(2,)), "id": TensorType("id", dtype="int64")}


def begun(queue: Queue) -> dict[str, torch.Tensor]:
    return queue.initial(COLUMNS, generator=torch.Generator().manual_seed(0))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.lists(st.integers(1, 12), max_size=6), st.sampled_from(["any", "full"]))
def test_it_holds_the_newest_rows_with_columns_in_step(size: int, batches: list[int], ready: str) -> None:
    queue = Queue(size=size, of={"key": "z", "id": "id"}, ready=ready)  # type: ignore[arg-type]
    state = begun(queue)
    held: list[int] = []
    count = 0
    for rows in batches:
        ids = torch.arange(count, count + rows)
        state = queue.update(state, {"key": torch.stack([ids, -ids], 1).float(), "id": ids})
        held = [*held, *ids.tolist()][-size:]
        count += rows
    read = queue.read(state)
    if not held or (ready == "full" and len(held) < size):
        assert read is None
        return
    assert read is not None
    present = read["id"].present
    there = torch.ones(size, dtype=torch.bool) if present is None else present
    assert sorted(read["id"].pooled[there].tolist()) == held
    keys = read["key"].pooled[there]
    assert keys[:, 0].tolist() == read["id"].pooled[there].tolist()
    assert (keys[:, 1] == -keys[:, 0]).all()
    assert (present is None) == (len(held) == size)


def test_the_next_place_follows_the_last_after_a_batch_larger_than_the_queue() -> None:
    queue = Queue(size=3, of={"id": "id"})  # type: ignore[arg-type]
    state = queue.initial({"id": COLUMNS["id"]}, generator=torch.Generator())
    state = queue.update(state, {"id": torch.arange(5)})
    state = queue.update(state, {"id": torch.tensor([5])})
    read = queue.read(state)
    assert read is not None
    assert sorted(read["id"].pooled.tolist()) == [3, 4, 5]


def test_an_update_leaves_the_state_it_began_with() -> None:
    queue = Queue(size=4, of={"key": "z", "id": "id"})  # type: ignore[arg-type]
    before = begun(queue)
    kept = {name: tensor.clone() for name, tensor in before.items()}
    queue.update(before, {"key": torch.ones(2, 2), "id": torch.tensor([1, 2])})
    for name, tensor in before.items():
        torch.testing.assert_close(tensor, kept[name])


def test_random_fill_is_ready_of_unit_length_and_soon_gone() -> None:
    queue = Queue(size=6, of={"key": "z", "id": "id"}, fill="random", ready="full")  # type: ignore[arg-type]
    state = begun(queue)
    read = queue.read(state)
    assert read is not None
    torch.testing.assert_close(read["key"].pooled.norm(dim=1), torch.ones(6))
    assert read["id"].pooled.tolist() == [-1] * 6
    for step in range(2):
        state = queue.update(state, {"key": torch.zeros(3, 2), "id": torch.arange(3) + 3 * step})
    read = queue.read(state)
    assert read is not None
    assert sorted(read["id"].pooled.tolist()) == list(range(6))
    assert read["key"].pooled.abs().sum() == 0


def test_normalize_stores_unit_vectors_without_gradient() -> None:
    queue = Queue(size=2, of={"key": "z"}, normalize=True)  # type: ignore[arg-type]
    state = queue.initial({"key": COLUMNS["key"]}, generator=torch.Generator())
    state = queue.update(state, {"key": torch.tensor([[3.0, 4.0], [0.0, 2.0]], requires_grad=True)})
    read = queue.read(state)
    assert read is not None
    torch.testing.assert_close(read["key"].pooled, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    assert not read["key"].pooled.requires_grad


def test_the_state_is_tensors_alone() -> None:
    assert all(isinstance(v, torch.Tensor) for v in begun(Queue(size=2, of={"key": "z"})).values())  # type: ignore[arg-type]


def test_a_column_of_unknown_width_is_refused() -> None:
    queue = Queue(size=2, of={"key": "z"})  # type: ignore[arg-type]
    with pytest.raises(ComponentError, match="'key'"):
        queue.initial({"key": TensorType("vector", size=(None,))}, generator=torch.Generator())
