"""A NaN or an infinity in the inputs must come out as one: a loss that hides it would let a run train on nothing."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch

from mmflow.kernels import info_nce, sigmoid_contrast, soft_contrast

# the interpreter warns of what the tests are about
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ABSENT = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
BACKENDS = ["reference", "chunked", pytest.param("triton", marks=ABSENT)]


def drawn(count: int) -> list[torch.Tensor]:
    return list(torch.randn(count, 8, 4, generator=torch.Generator().manual_seed(0)).to(DEVICE))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["x", "y"])
def test_what_is_not_finite_in_the_features_is_not_finite_in_the_loss(backend: str, value: float, side: str) -> None:
    x, y = drawn(2)
    (x if side == "x" else y)[3, 1] = value
    assert not math.isfinite(float(info_nce(x, y, temperature=0.1, backend=backend)))
    assert not math.isfinite(float(sigmoid_contrast(x, y, temperature=0.1, bias=-10.0, backend=backend)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_temperature_that_is_no_number_gives_none(backend: str) -> None:
    x, y = drawn(2)
    temperature = torch.tensor(math.nan, device=DEVICE)
    assert math.isnan(float(info_nce(x, y, temperature=temperature, backend=backend)))
    assert math.isnan(float(sigmoid_contrast(x, y, temperature=temperature, bias=-10.0, backend=backend)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("side", [0, 1])
def test_a_teacher_that_is_no_number_teaches_none(backend: str, top_k: int | None, side: int) -> None:
    x, y, *teachers = drawn(4)
    teachers[side][3, 1] = math.nan
    loss = soft_contrast(x, y, *teachers, temperature=0.1, teacher_temperature=0.1, top_k=top_k, backend=backend)
    assert math.isnan(float(loss))
