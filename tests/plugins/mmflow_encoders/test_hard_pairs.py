"""Hard pairs: matching pairs first, then negatives that a score finds and no exclusion forbids."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmflow_encoders.miners.hard_pairs import HardPairs
from mmflow_scores.products import Dot
from torch import Tensor

from mmflow.plugin import Encoding


def mined(a: Tensor, b: Tensor, *, present: Tensor | None = None, exclude: Any = None, **fields: Any) -> dict[str, Any]:
    encoder = HardPairs.model_validate({"of": ["image", "text.detach"], **fields})
    one, two = Encoding({"pooled": a}, present=present), Encoding({"pooled": b})
    temperature = fields.get("temperature", 1.0)
    return encoder.apply(one, two, Dot(), temperature, exclude, torch.Generator().manual_seed(0))


A = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0]])


def test_the_hardest_negative_of_each_side() -> None:
    found = mined(A, A, choose="hardest")
    assert found["match"].tolist() == [1] * 4 + [0] * 8
    assert found["image"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 1, 0, 1, 2]
    assert found["text"].tolist() == [0, 1, 2, 3, 1, 0, 1, 2, 0, 1, 2, 3]


@pytest.mark.parametrize("exclude", [torch.tensor([7, 7, 8, 9]), ["a", "a", "b", "c"]])
def test_rows_of_an_equal_value_are_no_negatives(exclude: Any) -> None:
    found = mined(A, A, exclude=exclude, choose="hardest")
    assert found["text"][4:8].tolist() == [2, 2, 1, 2]


def test_what_cannot_be_made_is_absent() -> None:
    found = mined(A, A, present=torch.tensor([True, True, False, True]), exclude=[1, 1, 2, 1], choose="hardest")
    # The third row is absent, and the others are equal: no negative is left.
    assert found["image"].tolist() == [0, 1, -1, 3] + [-1] * 8
    assert found["text"].tolist() == [0, 1, -1, 3] + [-1] * 8
    assert found["match"].tolist() == [1, 1, -1, 1] + [-1] * 8


def test_negatives_are_drawn_by_their_scores() -> None:
    """Of two candidates whose scores differ by ln 3, one is drawn three times as often."""
    a = torch.zeros(4000, 2)
    a[:, 0] = 1.0
    b = torch.zeros(4000, 2)
    b[0, 0] = torch.log(torch.tensor(3.0))
    exclude = torch.full((4000,), 1)
    exclude[0], exclude[1] = 2, 3
    found = mined(a, b, exclude=exclude)["text"][4002:8000]
    assert set(found.tolist()) == {0, 1}
    assert float((found == 0).double().mean()) == pytest.approx(0.75, abs=0.03)
    assert mined(a, b, exclude=exclude)["text"][4002:8000].tolist() == found.tolist()
