"""A NaN or an infinity in the inputs must come out as one: a loss that hides it would let a run train on nothing."""

from __future__ import annotations

import math

import pytest
import torch

from mmflow.kernels import info_nce, sigmoid_contrast


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["x", "y"])
def test_what_is_not_finite_in_the_features_is_not_finite_in_the_loss(backend: str, value: float, side: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 4, generator=generator), torch.randn(8, 4, generator=generator)
    (x if side == "x" else y)[3, 1] = value
    assert not math.isfinite(float(info_nce(x, y, temperature=0.1, backend=backend)))
    assert not math.isfinite(float(sigmoid_contrast(x, y, temperature=0.1, bias=-10.0, backend=backend)))


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_a_temperature_that_is_no_number_gives_none(backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 4, generator=generator), torch.randn(8, 4, generator=generator)
    temperature = torch.tensor(math.nan)
    assert math.isnan(float(info_nce(x, y, temperature=temperature, backend=backend)))
    assert math.isnan(float(sigmoid_contrast(x, y, temperature=temperature, bias=-10.0, backend=backend)))
