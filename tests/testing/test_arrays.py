"""Files of reference numbers: which value is the truth, and how far off a computed one is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmflow.testing import Agreement, Arrays
from mmflow.testing.arrays import disagreements


def test_the_value_of_the_card_goes_before_that_of_the_release(tmp_path: Path) -> None:
    path = tmp_path / "loss--case.npz"
    np.savez(path, in_x=np.ones((2, 3), np.float32), opt_tau=0.5, out_loss=1.0, card_loss=2.0, grad_x=np.zeros(2))
    file = Arrays(path)
    assert file.input("x").dtype == torch.float64
    assert (file.number("tau"), float(file.result("loss")), float(file.result("loss", released=True))) == (0.5, 2, 1)
    assert list(file.names("grad")) == ["x"]
    with pytest.raises(KeyError, match=r"loss--case.npz has no in_y; it has card_loss, grad_x, in_x"):
        file.input("y")


def test_differences_are_relative_to_the_largest_value_and_never_hidden_by_nan() -> None:
    def off(computed: list[float], wanted: list[float]) -> float:
        values = (torch.tensor(each, dtype=torch.float64) for each in (computed, wanted))
        return Agreement("x", *values).difference

    assert off([1.0, 100.0], [1.0, 101.0]) == pytest.approx(1 / 101)
    assert off([0.1], [0.2]) == pytest.approx(0.1)
    assert off([float("nan")], [1.0]) == off([1.0], [float("nan")]) == off([float("inf")], [1.0]) == float("inf")
    assert off([float("nan"), float("inf")], [float("nan"), float("inf")]) == 0
    said = disagreements([Agreement("a", torch.ones(1), torch.zeros(1)), Agreement("b", torch.ones(1), torch.ones(1))])
    assert said == ["a: off by 1, allowed 1e-06"]
    with pytest.raises(AssertionError, match=r"computed a value of shape \[2\], wanted \[1\]"):
        Agreement("a", torch.ones(2), torch.ones(1))
