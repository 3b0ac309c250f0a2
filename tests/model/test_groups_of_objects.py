"""Columns of objects (lists) are folded, picked and unfolded as tensors of the same members are."""

from __future__ import annotations

import torch

from mmflow.model.rows import fold, pick, unfold
from mmflow.plugin import Encoding, Target

AXES = ("sample", "copy")


def test_objects_in_groups_are_rows_in_the_order_of_tensors() -> None:
    numbers = torch.arange(6).reshape(2, 3)
    named = [[f"{int(n)}" for n in row] for row in numbers]
    tensors, objects = Encoding({"value": numbers}, AXES), Encoding({"value": named}, AXES)
    _, folded, groups = fold([objects], ())
    assert groups == fold([tensors], ())[2] == (3,)
    assert folded[0] is not None
    assert folded[0]["value"] == ["0", "1", "2", "3", "4", "5"]
    assert unfold(folded[0]["value"], groups) == named
    target = Target("fields", "value", index=1)
    assert pick(objects, target)["value"] == ["1", "4"]
    assert pick(tensors, target)["value"].tolist() == [1, 4]


def test_an_object_a_row_is_repeated_for_the_members_of_the_other_input() -> None:
    group, single = Encoding({"value": torch.zeros(2, 3)}, AXES), Encoding({"value": ["a", "b"]})
    _, (_, repeated), groups = fold([group, single], ())
    assert groups == (3,)
    assert repeated is not None
    assert repeated["value"] == ["a", "a", "a", "b", "b", "b"]
