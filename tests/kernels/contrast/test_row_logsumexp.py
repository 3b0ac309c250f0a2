"""`row_logsumexp` against torch's own over the written matrix, in all forms, with every rule."""

from __future__ import annotations

import pytest
import torch

from mmflow.kernels import row_logsumexp

FORMS = ["reference", "chunked", "triton"]


def unit(*shape: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=-1).to(dtype).requires_grad_()


def truth(x, y, temperature, out, weights=None):
    scores = x.double() @ y.double().T / temperature
    if weights is not None:
        scores = scores + weights.double().log()
    return scores.masked_fill(out, -torch.inf).logsumexp(1)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rules", ["none", "self", "same_id", "same_view", "present", "weights"])
@pytest.mark.parametrize(("n", "m", "d"), [(7, 7, 5), (1, 3, 1), (37, 19, 8)])
def test_values_and_gradients(form: str, rules: str, n: int, m: int, d: int) -> None:
    if form == "triton":
        pytest.importorskip("triton")
    dtype = torch.float32 if form == "triton" else torch.float64
    x, y = unit(n, d, seed=1, dtype=dtype), unit(m, d, seed=2, dtype=dtype)
    temperature = torch.tensor(0.3, dtype=dtype, requires_grad=True)
    x_ids, y_ids = torch.arange(n) % 3, torch.arange(m) % 2 + 1
    out, options, weights = torch.zeros(n, m, dtype=torch.bool), {}, None
    if rules == "self":
        out, options = torch.eye(n, m, dtype=torch.bool), {"exclude": "self"}
    elif rules in ("same_id", "same_view"):
        out = x_ids[:, None] == y_ids[None]
        options = {"exclude": rules, **{f"{side}_{rules[5:]}s": ids for side, ids in (("x", x_ids), ("y", y_ids))}}
    elif rules == "present":
        here = torch.arange(m) % 3 != 1
        out, options = ~here[None].expand(n, m), {"y_present": here}
    elif rules == "weights":
        weights = torch.rand(n, m, generator=torch.Generator().manual_seed(3), dtype=dtype) + 0.1
        options = {"pair_weights": weights}
    found = row_logsumexp(x, y, temperature=temperature, backend=form, **options)
    wanted = truth(x, y, temperature, out, weights)
    some = ~out.all(1)
    assert torch.equal(found.isinf(), ~some)
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(found[some], wanted[some].to(dtype), **close)
    if not some.any():
        return
    slopes = torch.linspace(0.5, 1.5, int(some.sum()), dtype=dtype)
    got = torch.autograd.grad((found[some] * slopes).sum(), (x, y, temperature))
    want = torch.autograd.grad((wanted[some] * slopes).sum(), (x, y, temperature))
    for a, b in zip(got, want, strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, **close)


@pytest.mark.parametrize("form", FORMS[:2])
def test_a_row_without_columns_is_minus_infinity_without_gradient(form: str) -> None:
    x = unit(1, 4, seed=0, dtype=torch.float64)
    found = row_logsumexp(x, exclude="self", backend=form)
    assert found.tolist() == [-torch.inf]
    (gradient,) = torch.autograd.grad(torch.where(found.isinf(), 0.0, found).sum(), x)
    assert gradient.tolist() == [[0.0] * 4]


def test_rules_need_their_ids() -> None:
    with pytest.raises(ValueError, match="exclude='same_id' needs x_ids"):
        row_logsumexp(torch.ones(2, 2), exclude="same_id")
    with pytest.raises(ValueError, match="features"):
        row_logsumexp(torch.ones(2, 2), torch.ones(2, 3))
