"""Prototypes: three steps worked out by hand, of each rule; clusters; any number up to `count`."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_memories.prototypes import Prototypes
from pydantic import ValidationError
from torch import Tensor

from mmflow.plugin import ComponentError, TensorType

Z = {"value": TensorType("vector", size=(2,), dtype="float64")}
STEPS = [
    ([(4.0, 0.0), (0.0, 2.0), (2.0, 0.0)], [0, 1, 0]),
    ([(0.0, 0.0), (1.0, 1.0)], [0, -1]),
    ([(0.0, 4.0), (0.0, 0.0), (8.0, 8.0)], [1, 1, 0]),
]


def made(**fields: Any) -> Prototypes:
    return Prototypes.model_validate({"of": {"value": "z"}, "count": 3, "labels": "y", **fields})


def after(memory: Prototypes, steps: Any, momentum: float = 0.5) -> dict[str, Any]:
    state = memory.initial(Z, generator=torch.Generator())
    for rows, labels in steps:
        given = None if labels is None else torch.tensor(labels)
        columns = {"value": torch.tensor(rows, dtype=torch.float64)}
        state = memory.update(state, columns, given, momentum, torch.Generator())
    return state


def test_averages_by_hand() -> None:
    """Class 0: 3 (the mean of 4 and 2), 1.5, then half of it and half of 8; class 1: 2, then half of the mean 2."""
    read = made().read(after(made(), STEPS))
    assert read["value"].pooled.tolist() == [[4.75, 4.0], [0.0, 2.0], [0.0, 0.0]]
    assert read["value"].present.tolist() == [True, True, False]
    assert read["count"].pooled.tolist() == [4, 3, 0]


def test_row_after_row_by_hand() -> None:
    """Class 0: 4, then half of 4 and 2 (3), 1.5, then half of it and of 8; class 1: 2, 3, then half of it."""
    memory = made(one_by_one=True)
    read = memory.read(after(memory, STEPS))
    assert read["value"].pooled.tolist() == [[4.75, 4.0], [0.0, 1.5], [0.0, 0.0]]


def test_means_of_all_rows_by_hand() -> None:
    """Class 0: the mean of 4, 2, 0 and 8; class 1: of 2, 4 and 0."""
    memory = made(over="all")
    read = memory.read(after(memory, STEPS))
    torch.testing.assert_close(read["value"].pooled, torch.tensor([[3.5, 2.0], [0.0, 2.0], [0.0, 0.0]]).double())


def test_the_density_by_hand() -> None:
    """Distances of rows to their prototype behind the step: class 0: 1, then 1.5, class 1: 0."""
    read = made().read(after(made(), STEPS[:2]))
    assert read["density"].pooled.tolist()[:2] == pytest.approx([(0.5 * 1 + 0.5 * 1.5) / math.log(3 + 10), 0.0])


def test_unit_prototypes_stay_of_length_one() -> None:
    memory = made(normalize=True)
    read = memory.read(after(memory, [([(3.0, 0.0)], [0]), ([(0.0, 9.0)], [0])]))
    torch.testing.assert_close(read["value"].pooled[0], torch.tensor([0.5**0.5, 0.5**0.5]).double())


def test_it_waits_for_all_classes_where_it_shall() -> None:
    memory = made(ready="full", count=2)
    assert memory.read(after(memory, [([(1.0, 0.0)], [0])])) is None
    assert memory.read(after(memory, [([(1.0, 0.0)], [0]), ([(1.0, 0.0)], [1])]))["value"].present is None


def test_rows_move_the_nearest_without_labels() -> None:
    """The first two rows are the prototypes; (1, 0) moves the first to half the way, (0, 9) the second."""
    memory = made(labels=None, count=2)
    read = memory.read(after(memory, [([(0.0, 0.0)], None), ([(0.0, 5.0), (1.0, 0.0)], None), ([(0.0, 9.0)], None)]))
    assert read["value"].pooled.tolist() == [[0.5, 0.0], [0.0, 7.0]]


def test_kmeans_begins_with_the_centers_of_the_first_rows() -> None:
    memory = made(labels=None, count=2, start="kmeans", start_rows=4)
    first = [([(0.0, 0.0), (9.0, 9.0)], None), ([(0.0, 2.0)], None)]
    assert memory.read(after(memory, first)) is None
    read = memory.read(after(memory, [*first, ([(9.0, 7.0), (50.0, 50.0)], None)]))
    assert sorted(read["value"].pooled.tolist()) == [[0.0, 1.0], [9.0, 8.0]]
    assert read["count"].pooled.tolist() == [2, 2]
    moved = memory.read(after(memory, [*first, ([(9.0, 7.0)], None), ([(0.0, 3.0)], None)]))
    assert sorted(moved["value"].pooled.tolist()) == [[0.0, 2.0], [9.0, 8.0]]


def test_another_stage_gives_any_number_up_to_count() -> None:
    memory = made()
    state = memory.initial(Z, generator=torch.Generator())
    read = memory.read(memory.begun(state, {"value": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}))
    assert read["value"].present.tolist() == [True, True, False]
    assert read["value"].pooled[:2].tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ComponentError, match="more prototypes than `count`"):
        memory.begun(state, {"value": torch.ones(4, 2)})


def test_mistakes_are_told() -> None:
    with pytest.raises(ComponentError, match="a label has no prototype"):
        after(made(), [([(1.0, 1.0)], [3])])
    with pytest.raises(ValidationError, match="kmeans makes clusters"):
        made(start="kmeans")
    with pytest.raises(ValidationError, match="have no 3 centers"):
        made(labels=None, start="kmeans", start_rows=2)
    with pytest.raises(ComponentError, match="'value' has whole numbers"):
        made().initial({"value": TensorType("label", dtype="int64")}, generator=torch.Generator())


def plainly(batches: list[list[int]], rows: list[Tensor], momentum: float, *, by_row: bool) -> dict[int, Tensor]:
    """The rule in a loop."""
    held: dict[int, Tensor] = {}
    for labels, x in zip(batches, rows, strict=True):
        if by_row:
            groups = [(label, row) for label, row in zip(labels, x, strict=True)]
        else:
            groups = [(label, x[torch.tensor(labels) == label].mean(0)) for label in set(labels)]
        for label, row in groups:
            held[label] = row if label not in held else momentum * held[label] + (1 - momentum) * row
    return held


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), min_size=1, max_size=4),
    st.floats(0.1, 0.9),
    st.booleans(),
)
def test_any_batches_are_as_the_rule_says(batches: list[list[int]], momentum: float, by_row: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randn(len(labels), 2, generator=draw, dtype=torch.float64) for labels in batches]
    memory = made(one_by_one=by_row)
    read = memory.read(after(memory, [(x.tolist(), labels) for x, labels in zip(rows, batches, strict=True)], momentum))
    for label, row in plainly(batches, rows, momentum, by_row=by_row).items():
        torch.testing.assert_close(read["value"].pooled[label], row)
