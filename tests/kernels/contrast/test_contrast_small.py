"""Small plain batches take one matrix: the same numbers as the tiles, in every dtype and at every crossover."""

import pytest
import torch
from torch.nn import functional as F

from mmflow.kernels import info_nce, sigmoid_contrast


def rows(n, d, seed, dtype):
    drawn = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(drawn, dim=1).to(dtype).requires_grad_()


def differentiated(loss, x, y, t, **options):
    value = loss(x, y, temperature=t, **options)
    return [value, *torch.autograd.grad(3 * value, [x, y, t])]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [1, 37, 160, 161])
@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (info_nce, {}),
        (info_nce, {"directions": "forward", "reduction": "sum"}),
        (info_nce, {"directions": "backward"}),
        (sigmoid_contrast, {"bias": -3.0}),
        (sigmoid_contrast, {"bias": torch.tensor(-3.0), "reduction": "sum"}),
    ],
)
def test_one_matrix_gives_the_numbers_of_the_definition(loss, options, n, dtype):
    x, y = rows(n, 9, 0, dtype), rows(n, 9, 1, dtype)
    t = torch.tensor(0.07, requires_grad=True)
    found = differentiated(loss, x, y, t, **options)
    x64, y64, t64 = (v.detach().double().requires_grad_() for v in (x, y, t))
    truth = differentiated(loss, x64, y64, t64, backend="reference", **options)
    tolerance = {torch.float64: 1e-7, torch.float32: 1e-5}.get(dtype, 2e-2)
    assert found[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for ours, exact, like in zip(found, truth, (found[0], x, y, t), strict=True):
        assert ours.dtype == like.dtype
        assert (
            float((ours.detach().double() - exact.detach()).norm()) <= tolerance * float(exact.detach().norm()) + 1e-7
        )


@pytest.mark.parametrize("n", [12, 170])
@pytest.mark.parametrize("loss", [info_nce, sigmoid_contrast])
def test_a_small_batch_inside_autocast_and_inside_a_compiled_function(loss, n):
    x, y, t = rows(n, 6, 0, torch.float32), rows(n, 6, 1, torch.float32), torch.tensor(0.02, requires_grad=True)
    expected = differentiated(loss, x, y, t)
    with torch.autocast("cpu", torch.bfloat16):
        found = differentiated(loss, x, y, t)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    compiled = torch.compile(lambda x, y, t: loss(x, y, temperature=t), backend="eager")
    found = torch.autograd.grad(3 * compiled(x, y, t), [x, y, t])
    for a, b in zip(found, expected[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_forms_that_are_asked_for_stream(monkeypatch):
    x, y = rows(150, 9, 0, torch.float32), rows(150, 9, 1, torch.float32)
    monkeypatch.setattr("mmflow.kernels.contrast.softmax.chunked.TILE", 16)
    monkeypatch.setenv("MMFLOW_KERNELS", "chunked")
    streamed = info_nce(x, y, temperature=0.07)
    monkeypatch.delenv("MMFLOW_KERNELS")
    torch.testing.assert_close(streamed, info_nce(x, y, temperature=0.07, backend="chunked"), rtol=0, atol=0)
    torch.testing.assert_close(streamed, info_nce(x, y, temperature=0.07), rtol=1e-6, atol=0)
