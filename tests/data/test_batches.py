"""Joining rows: axes, presence, padding, micro-batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmflow.data import Batch, ColumnBatch, collate
from mmflow.plugin import TensorType, Tokens


def test_images_become_channels_first_between_zero_and_one() -> None:
    images = [np.arange(24, dtype=np.uint8).reshape(2, 4, 3), np.full((2, 4, 3), 255, dtype=np.uint8)]
    column = collate(images, TensorType("image", size=(2, 4, 3)))
    assert column.values.dtype == torch.float32
    assert column.values.shape == (2, 3, 2, 4)
    assert column.values[0, 1, 0, 2] == 7 / 255
    assert float(column.values[1].min()) == 1.0
    assert column.present is None


def test_float_images_keep_their_values_and_channels_first_stays() -> None:
    last = np.random.default_rng(0).normal(size=(5, 6, 3)).astype(np.float32)
    declared = TensorType("image", size=(None, None, 3))
    assert torch.equal(collate([last], declared).values[0], torch.from_numpy(last).permute(2, 0, 1))
    first = np.ascontiguousarray(last.transpose(2, 0, 1))
    assert torch.equal(collate([first], declared).values[0], torch.from_numpy(first))


def test_bytes_beside_floats_become_the_floats_that_they_are_alone() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    declared = TensorType("image", size=(6, 7, 3))
    alone = collate([raw], declared).values[0]
    for rows in ([raw, raw.astype(np.float32) / 255], [raw.astype(np.float32) / 255, None, raw]):
        joined = collate(rows, declared).values
        assert torch.equal(joined[0], alone)
        assert torch.equal(joined[-1], alone)
    whole = collate([np.array([1, 2]), np.array([0.5, 1.5], np.float32)], TensorType("vector", size=(2,)))
    assert whole.values.tolist() == [[1.0, 2.0], [0.5, 1.5]]
    assert whole.values.dtype == torch.float32


def test_images_of_different_sizes_are_refused_with_a_fix() -> None:
    rows = [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"\(4, 4, 3\) and \(4, 5, 3\).*resize"):
        collate(rows, TensorType("image"))
    with pytest.raises(ValueError, match="different shapes"):
        collate([np.zeros(3, np.float32), np.zeros(4, np.float32)], TensorType("vector", size=(None,)))


@given(st.lists(st.one_of(st.none(), st.lists(st.integers(1, 100), max_size=6)), min_size=1, max_size=8))
def test_lists_of_ints_are_padded_with_zeros_under_a_mask(rows: list[list[int] | None]) -> None:
    column = collate(rows, TensorType("text"), template=[1])
    assert isinstance(column.values, Tokens)
    ids, mask = column.values
    assert ids.dtype == torch.int64
    for n, row in enumerate(rows):
        assert ids[n][mask[n]].tolist() == (row or [])
    assert int(ids[~mask].abs().sum()) == 0
    assert (column.present is None) == (None not in rows)
    if column.present is not None:
        assert column.present.tolist() == [row is not None for row in rows]


def test_ragged_groups_are_padded_and_known_by_presence() -> None:
    boxes = [[np.full(4, n + k, dtype=np.float32) for k in range(n)] for n in (2, 0, 3)]
    column = collate(boxes, TensorType("boxes", ("sample", "object"), (4,), groups=(None,)))
    assert column.values.shape == (3, 3, 4)
    assert column.axes == ("sample", "object")
    assert column.present is not None
    assert column.present.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert column.values[0, 1].tolist() == [3.0] * 4
    assert float(column.values[1].abs().sum()) == 0
    fixed = collate(boxes, TensorType("boxes", ("sample", "object"), (4,), groups=(5,)))
    assert fixed.values.shape == (3, 5, 4)
    with pytest.raises(ValueError, match="a group of 3 where 2 are declared"):
        collate(boxes, TensorType("boxes", ("sample", "object"), (4,), groups=(2,)))


def test_two_group_axes_of_tokens() -> None:
    rows = [[[[1, 2], [3]], [[4]]], [[[5]], None]]
    column = collate(rows, TensorType("text", ("sample", "copy", "caption"), groups=(2, None)))
    assert column.values.values.shape == (2, 2, 2, 2)
    assert column.values.values[0, 0].tolist() == [[1, 2], [3, 0]]
    assert column.present is not None
    assert column.present.tolist() == [[[True, True], [True, False]], [[True, False], [False, False]]]


def test_a_column_that_nobody_has_is_zeros_in_its_declared_shape() -> None:
    column = collate([None, None], TensorType("image", size=(8, 6, 3), dtype="uint8"))
    assert column.values.shape == (2, 3, 8, 6)
    assert column.present is not None
    assert not column.present.any()
    assert collate([None, 3], TensorType("label")).values.tolist() == [0, 3]
    assert collate([None, "a"], TensorType("text")).values == [None, "a"]
    template = collate([None], TensorType("audio"), template=np.ones((7, 2), np.float32))
    assert template.values.values.shape == (1, 1, 2)
    assert not template.values.mask.any()


def test_numbers_keep_their_meaning() -> None:
    assert collate([True, False], TensorType("label")).values.dtype == torch.bool
    assert collate([1, 2], TensorType("label")).values.dtype == torch.int64
    assert collate([1, 2], TensorType("number")).values.dtype == torch.float32
    assert collate([1.5, None], TensorType("number", dtype="float64")).values.tolist() == [1.5, 0.0]
    assert collate([np.zeros(2)], TensorType("vector", size=(2,))).values.dtype == torch.float32
    masks = collate([[np.ones((2, 2), bool)]], TensorType("mask", ("sample", "object"), (2, 2), "bool"))
    assert masks.values.dtype == torch.bool


def test_micro_batches_are_views_of_the_batch() -> None:
    columns = {
        "x": collate(list(np.arange(12, dtype=np.float32).reshape(6, 2)), TensorType("vector", size=(2,))),
        "t": collate([[n] * n for n in range(6)], TensorType("text")),
        "s": collate(list("abcdef"), TensorType("text")),
    }
    batch = Batch(columns, [str(n) for n in range(6)], 6)
    part = batch.rows(2, 5)
    assert (part.size, part.ids) == (3, ["2", "3", "4"])
    assert part.columns["x"].values.data_ptr() == columns["x"].values[2].data_ptr()
    assert part.columns["t"].values.values.shape == (3, 5)
    assert part.columns["s"].values == ["c", "d", "e"]
    assert len(part.columns["t"]) == 3
    assert batch.rows(4, 100).size == 2
    moved = ColumnBatch(columns["t"].values, present=torch.ones(6, dtype=torch.bool)).map(lambda t: t[:1])
    assert moved.present is not None
    assert moved.present.shape == (1,)
