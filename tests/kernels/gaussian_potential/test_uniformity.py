"""Uniformity against its definition in float64."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow.kernels.gaussian_potential import chunked, uniformity

FORMS = ["chunked"]
if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():
    FORMS.append("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rows(n, d, seed, dtype=torch.float64):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=1).to(DEVICE, dtype)


def value_and_gradient(x, backend, **options):
    x = x.detach().requires_grad_()
    value = uniformity(x, backend=backend, **options)
    return value.detach(), torch.autograd.grad(value, x)[0]


@pytest.mark.parametrize("backend", FORMS)
@settings(max_examples=25, deadline=None)
@given(
    n=st.sampled_from([2, 3, 17, 50]), d=st.sampled_from([1, 3, 40]), t=st.sampled_from([0.5, 2.0, 30.0]),
    scale=st.sampled_from([1.0, 20.0]), tile=st.sampled_from([7, 16, 1024]),
)  # fmt: skip
def test_value_and_gradient_are_those_of_the_definition(backend, n, d, t, scale, tile):
    x = (scale * rows(n, d, 1)).float()
    before, chunked._TILE = chunked._TILE, tile
    try:
        value, gradient = value_and_gradient(x, backend, t=t)
        exact, exact_gradient = value_and_gradient(x.double(), "chunked", t=t)
    finally:
        chunked._TILE = before
    expected, expected_gradient = value_and_gradient(x.double(), "reference", t=t)
    torch.testing.assert_close(exact, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(exact_gradient, expected_gradient, rtol=1e-7, atol=1e-7)
    # A distance carries the rounding of the squared norms, times t in the exponent.
    tolerance = 1e-5 + 4e-7 * t * scale**2
    torch.testing.assert_close(value.double(), expected, rtol=tolerance, atol=tolerance)
    error = (gradient - expected_gradient).norm()
    assert float(error) <= tolerance * float(expected_gradient.norm()) + tolerance * t * scale


def test_gradcheck():
    assert torch.autograd.gradcheck(lambda x: uniformity(x, backend="chunked"), rows(6, 3, 1).requires_grad_())


def test_known_values():
    assert uniformity(torch.tensor([[1.0, 0], [-1.0, 0]])).item() == pytest.approx(-8.0)
    assert uniformity(torch.ones(5, 3)).item() == pytest.approx(0.0)


def test_absent_rows_are_left_out_and_lone_rows_give_zero():
    x = rows(9, 4, 1, torch.float32).requires_grad_()
    present = torch.arange(9, device=DEVICE) < 6
    assert uniformity(x, present=present).item() == pytest.approx(uniformity(x[:6]).item())
    loss = uniformity(x, present=torch.arange(9, device=DEVICE) < 1)
    loss.backward()
    assert loss.item() == 0
    assert x.grad.abs().max() == 0


@pytest.mark.parametrize("backend", FORMS)
def test_same_bits_twice(backend):
    x = rows(50, 20, 1, torch.float32)
    for first, second in zip(value_and_gradient(x, backend), value_and_gradient(x, backend), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_columns_as_rows(backend, dtype):
    x = rows(20, 33, 1, dtype).T
    assert not x.is_contiguous()
    value, gradient = value_and_gradient(x, backend)
    expected, expected_gradient = value_and_gradient(x.double(), "reference")
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert gradient.dtype == dtype
    assert float((gradient.double() - expected_gradient).norm()) < 1e-2 * float(expected_gradient.norm())


@pytest.mark.parametrize("backend", FORMS)
def test_nan_is_not_hidden(backend):
    x = rows(20, 5, 1, torch.float32)
    x[3, 2] = torch.nan
    assert uniformity(x, backend=backend).isnan()


@pytest.mark.skipif("triton" not in FORMS, reason="needs a GPU or Triton's interpreter")
def test_the_gradient_in_strips_is_that_of_one_strip(monkeypatch):
    from mmflow.kernels.gaussian_potential import fused

    x = rows(50, 20, 1, torch.float32)
    whole = value_and_gradient(x, "triton")[1]
    monkeypatch.setattr(fused, "_STRIP_BYTES", 1)
    monkeypatch.setattr(fused, "_LEAST_ROWS", 19)
    torch.testing.assert_close(value_and_gradient(x, "triton")[1], whole, rtol=1e-5, atol=1e-8)


def test_wrong_input_is_explained():
    with pytest.raises(ValueError, match="not empty"):
        uniformity(torch.ones(0, 3))
    with pytest.raises(ValueError, match="> 0"):
        uniformity(torch.ones(4, 3), 0.0)
