"""Balanced assignments against the log-domain iteration in float64, and known solutions."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow.kernels.transport import Potentials, assignment, chunked, sinkhorn

pytestmark = pytest.mark.slow

FORMS = ["chunked"]
if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():
    FORMS.append("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def unit(n, d, seed, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.nn.functional.normalize(torch.randn(n, d, generator=g, dtype=torch.float64), dim=1).to(dtype).to(DEVICE)
    )


def marginal(n, seed, zeros=0):
    m = torch.rand(n, generator=torch.Generator().manual_seed(seed)) + 0.1
    m[:zeros] = 0
    return (m / m.sum()).to(DEVICE)


def plan(x, y, potentials):
    scores = x.double() @ y.double().T
    f, g = potentials.rows.double(), potentials.columns.double()
    return ((scores + f[:, None] + g) / potentials.epsilon).exp()


@pytest.mark.parametrize("backend", FORMS)
@settings(max_examples=20, deadline=None)
@given(
    n=st.sampled_from([1, 2, 17, 70]),
    m=st.sampled_from([1, 3, 33, 64]),
    epsilon=st.sampled_from([0.01, 0.05, 1.0]),
    iterations=st.sampled_from([1, 2, 3, 20]),
    given_marginals=st.booleans(),
    features=st.booleans(),
)
def test_plan_is_that_of_the_log_domain(backend, n, m, epsilon, iterations, given_marginals, features):
    x, y = unit(n, 9, 1), unit(m, 9, 2)
    given_ = (x, y) if features else (x @ y.T,)
    options = {"epsilon": epsilon, "iterations": iterations}
    if given_marginals:
        options |= {"row_marginal": marginal(n, 3, n // 4), "column_marginal": marginal(m, 4, m // 4)}
    expected = plan(x, y, sinkhorn(x.double(), y.double(), backend="reference", **options))
    found = plan(x, y, sinkhorn(*given_, backend=backend, **options))
    assert float((found - expected).norm() / expected.norm()) < 2e-5 + 4e-7 / epsilon
    exact = sinkhorn(x.double(), y.double(), backend="chunked", **options)
    torch.testing.assert_close(plan(x, y, exact), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("spread", [1, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_potentials_that_move_far_lose_nothing(spread, dtype, monkeypatch):
    """Rows of one tile whose potentials lie hundreds of units apart, in tiles of six rows."""
    monkeypatch.setattr(chunked, "_TILE_BYTES", 1000)
    scores = 3 * unit(60, 5, 1, torch.float64) @ unit(40, 5, 2, torch.float64).T
    scores = (scores + spread * torch.rand(60, 1, generator=torch.Generator().manual_seed(3)).to(DEVICE)).to(dtype)
    options = {"epsilon": 0.05, "iterations": 30}
    expected = sinkhorn(scores.double(), backend="reference", **options)
    found = sinkhorn(scores, backend="chunked", **options)
    codes = assignment(scores.double(), None, expected)
    limit = 1e-10 if dtype == torch.float64 else 1e-6 * (1 + spread / 0.05)
    torch.testing.assert_close(
        assignment(scores.double(), None, found), codes, rtol=limit, atol=limit, check_dtype=False
    )
    torch.testing.assert_close(found.rows.double(), expected.rows, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["reference", *FORMS])
def test_forbidden_pairs_and_marginals_of_any_size(backend):
    scores = unit(12, 5, 1) @ unit(8, 5, 2).T
    scores[:5, 3] = scores[7, 4:] = -torch.inf
    columns = marginal(8, 4)
    columns[2] = 1e-25
    columns[5] = 0
    options = {"column_marginal": columns / columns.sum(), "row_marginal": marginal(12, 5, 2), "iterations": 40}
    expected = sinkhorn(scores.double(), backend="reference", **options)
    found = sinkhorn(scores, backend=backend, **options)
    total = [((scores.double() + p.rows[:, None] + p.columns) / p.epsilon).exp() for p in (found, expected)]
    torch.testing.assert_close(*total, rtol=1e-4, atol=1e-30)
    assert float(total[0][:, 2].sum()) == pytest.approx(1e-25, rel=1e-2)
    assert total[0][:5, 3].abs().max() == 0


@pytest.mark.parametrize("given_", ["scores", "features", "a batch of scores", "many small scores"])
def test_nothing_as_large_as_the_scores_is_allocated(given_, largest_tensor, monkeypatch):
    monkeypatch.setattr(chunked, "_TILE_BYTES", 1 << 14)
    monkeypatch.setattr(chunked, "_KEPT_BYTES", 0)
    monkeypatch.setattr(chunked, "_KEPT_BYTES_OF_FEATURES", 0)
    x, y = unit(700, 16, 1), unit(300, 16, 2)
    inputs = {
        "scores": ((x @ y.T).contiguous(),),
        "features": (x, y),
        "a batch of scores": ((x @ y.T).view(2, 350, 300),),
        "many small scores": ((x @ y.T).view(420, 50, 10),),
    }[given_]
    with largest_tensor:
        potentials = sinkhorn(*inputs, iterations=4, backend="chunked")
    assert largest_tensor.bytes <= max(1 << 14, potentials.rows.nbytes, potentials.columns.nbytes) < 100_000


def test_one_matrix_is_kept_where_it_is_small_and_no_larger(largest_tensor):
    """The one exception to tiles: as large as scores that the caller holds, up to 64 MB; 16 MB where features are."""
    x, y = unit(700, 16, 1), unit(300, 16, 2)
    scores = x @ y.T
    with largest_tensor:
        kept = sinkhorn(scores, iterations=4, backend="chunked")
    assert largest_tensor.bytes == scores.nbytes
    truth = sinkhorn(scores.double(), iterations=4, backend="reference")
    torch.testing.assert_close(kept.rows.double(), truth.rows, rtol=1e-5, atol=1e-6)
    large = unit(2100, 16, 3)
    with largest_tensor:
        largest_tensor.bytes = 0
        sinkhorn(large, large, iterations=1, backend="chunked")
    assert largest_tensor.bytes <= 16 << 20 < 4 * 2100**2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (33, 7), (3, 20, 11)])
@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_a_kept_matrix_and_tiles_give_the_same_plan(dtype, shape, spread, monkeypatch):
    scores = (spread * torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).to(
        DEVICE, dtype
    )
    options = {"epsilon": 0.05, "iterations": 6, "row_marginal": marginal(shape[-2], 3, shape[-2] // 4)}
    kept = sinkhorn(scores, backend="chunked", **options)
    monkeypatch.setattr(chunked, "_KEPT_BYTES", 0)
    streamed = sinkhorn(scores, backend="chunked", **options)
    for a, b in zip(kept[:2], streamed[:2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_tile_is_small():
    assert chunked._TILE_BYTES <= 16 << 20
    assert chunked._KEPT_BYTES_OF_FEATURES <= 16 << 20
    assert chunked._KEPT_BYTES <= 64 << 20


def test_marginals_hold_at_a_cold_temperature():
    x, y = unit(500, 16, 1), unit(30, 16, 2)
    potentials = sinkhorn(x, y, epsilon=0.01, iterations=300)
    p = plan(x, y, potentials)
    torch.testing.assert_close(p.sum(1), torch.full_like(p[:, 0], 1 / 500), rtol=1e-4, atol=0)
    torch.testing.assert_close(p.sum(0), torch.full_like(p[0], 1 / 30), rtol=2e-2, atol=0)


@pytest.mark.parametrize("backend", ["reference", *FORMS])
def test_known_assignments(backend):
    scores = torch.tensor([[0.3, 0.1], [0.0, 0.2]], device=DEVICE)
    codes = assignment(scores, None, sinkhorn(scores, epsilon=0.05, iterations=120, backend=backend))
    assert codes.diagonal().tolist() == pytest.approx([0.98201, 0.98201], abs=1e-5)
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.1], [0.7, 0.1], [0.6, 0.1]], device=DEVICE)
    codes = assignment(scores, None, sinkhorn(scores, epsilon=0.05, iterations=3, backend=backend))
    assert codes[:, 0].tolist() == pytest.approx([0.9281, 0.6359, 0.1912, 0.0310], abs=1e-4)
    codes = assignment(scores, None, sinkhorn(scores, epsilon=0.05, iterations=120, backend=backend))
    assert codes[:, 0].tolist() == pytest.approx([0.9526, 0.7311, 0.2689, 0.0474], abs=1e-4)


@pytest.mark.parametrize(
    ("backend", "tile_bytes"), [("reference", 0), ("chunked", 100), ("chunked", 600), ("triton", 0)]
)
def test_batches_are_the_single_problems(backend, tile_bytes, monkeypatch):
    if backend not in ("reference", *FORMS):
        pytest.skip("no GPU, and Triton's interpreter is off")
    monkeypatch.setattr(chunked, "_TILE_BYTES", tile_bytes)
    dtype = torch.float32 if backend == "triton" else torch.float64
    scores = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = scores.mT.to(DEVICE, dtype)
    together = sinkhorn(scores, epsilon=0.1, iterations=5, backend=backend)
    for i in range(2):
        for j in range(3):
            alone = sinkhorn(scores[i, j], epsilon=0.1, iterations=5, backend="reference")
            torch.testing.assert_close(together.rows[i, j], alone.rows)
            torch.testing.assert_close(together.columns[i, j], alone.columns)
    codes = assignment(scores, None, together)
    torch.testing.assert_close(codes.sum(-1), torch.ones_like(codes[..., 0]))


def test_assignments_of_some_rows_and_the_same_bits_twice():
    x, y = unit(50, 8, 1), unit(9, 8, 2)
    first, second = (sinkhorn(x, y, iterations=9) for _ in range(2))
    assert isinstance(first, Potentials)
    assert torch.equal(first.rows, second.rows)
    torch.testing.assert_close(assignment(x, y, first, slice(10, 20)), assignment(x, y, first)[10:20])
    assert assignment(x, y, first).sum(1).tolist() == pytest.approx([1.0] * 50)


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_strided_inputs_are_computed_in_float32(backend, dtype, monkeypatch):
    monkeypatch.setattr(chunked, "_TILE_BYTES", 1000)
    x, y = unit(40, 8, 1, dtype), unit(30, 8, 2, dtype)
    scores = (y.float() @ x.float().T).to(dtype).T
    for given_ in ((x, y), (scores,), (scores[::2, 1:],)):
        expected = sinkhorn(*(t.double() for t in given_), iterations=9, backend="reference")
        found = sinkhorn(*given_, iterations=9, backend=backend)
        assert found.rows.dtype == found.columns.dtype == torch.float32
        torch.testing.assert_close(found.rows.double(), expected.rows, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.columns.double(), expected.columns, rtol=1e-5, atol=1e-6)


def test_wrong_input_is_explained():
    x = torch.ones(3, 4)
    for options, message in (
        ({"epsilon": 0.0}, "> 0"),
        ({"iterations": 0}, "at least one"),
        ({"row_marginal": torch.ones(4)}, r"\[\.\.\., 3\]"),
        ({"row_marginal": torch.ones(3)}, "totals differ"),
        ({"row_marginal": torch.tensor([2.0, -1, 0])}, "negative"),
        ({"y": torch.ones(2, 5)}, "features are"),
    ):
        with pytest.raises(ValueError, match=message):
            sinkhorn(x, **options)
