"""Time warping against a loop over cells in float64, and alignments known by hand."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow.kernels.dtw.chunked as chunked
import mmflow.kernels.tiles as tiles
from mmflow.kernels.dtw import alignment, pair_soft_dtw, soft_dtw

FORMS = ["chunked"]
if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():
    FORMS.append("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def normal(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype).to(DEVICE)


def lengths(n, size, seed):
    return torch.randint(1, size + 1, (n,), generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def relative(a, b):
    return float((a.detach().double() - b.detach().double()).norm() / b.detach().double().norm())


def run(function, leaves, dtype, backend, **options):
    leaves = [v.detach().to(dtype).requires_grad_() for v in leaves]
    result = function(*leaves, backend=backend, **options)
    weight = normal(*result.shape, seed=7)
    (result.double() * weight).sum().backward()
    return result, [v.grad for v in leaves]


def compare(function, leaves, backend, dtype=torch.float32, tolerance=1e-5, **options):
    leaves = [v.to(dtype).double() for v in leaves]
    expected, expected_gradients = run(function, leaves, torch.float64, "reference", **options)
    found, gradients = run(function, leaves, dtype, backend, **options)
    assert relative(found, expected) < tolerance
    for g, e in zip(gradients, expected_gradients, strict=True):
        assert relative(g, e) < tolerance


@pytest.mark.parametrize("backend", FORMS)
@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(1, 5),
    rows=st.sampled_from([1, 2, 5, 9]),
    columns=st.sampled_from([1, 3, 8]),
    gamma=st.sampled_from([0.0, 0.01, 0.3, 5.0]),
    ragged=st.booleans(),
)
def test_values_and_gradients_are_those_of_the_loop_over_cells(backend, batch, rows, columns, gamma, ragged):
    if backend == "triton" and gamma == 0:
        gamma = 1.0
    options = {"gamma": gamma}
    if ragged:
        options |= {"x_lengths": lengths(batch, rows, 2), "y_lengths": lengths(batch, columns, 3)}
    tolerance = 1e-5 if backend == "chunked" else 1e-5 + 2e-6 / gamma
    compare(soft_dtw, [normal(batch, rows, columns, seed=1)], backend, tolerance=tolerance, **options)


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("metric", ["sqeuclidean", "dot"])
@pytest.mark.parametrize("kept", [0, 1 << 30])
def test_all_pairs_of_sequences(backend, metric, kept, monkeypatch):
    monkeypatch.setattr(tiles, "KEPT_BYTES", kept)
    monkeypatch.setattr(chunked, "_SWEEP_BYTES", 20_000)
    options = {"gamma": 0.5, "metric": metric, "x_lengths": lengths(4, 6, 3), "y_lengths": lengths(5, 7, 4)}
    leaves = [normal(4, 6, 3, seed=1), normal(5, 7, 3, seed=2)]
    compare(pair_soft_dtw, leaves, backend, **options)


@pytest.mark.parametrize("gamma", [0.0, 0.7])
def test_gradcheck(gamma):
    cost = normal(3, 4, 5, seed=1).requires_grad_()
    x_len, y_len = torch.tensor([4, 2, 3]), torch.tensor([5, 5, 1])
    assert torch.autograd.gradcheck(lambda c: soft_dtw(c, gamma, x_len, y_len, backend="chunked"), cost)
    x, y = normal(2, 4, 3, seed=1).requires_grad_(), normal(3, 5, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: pair_soft_dtw(a, b, gamma, backend="chunked"), (x, y))


def test_costs_far_beyond_gamma_stay_finite():
    cost = 1000 * normal(2, 6, 6, seed=1).abs().float().requires_grad_()
    (gradient,) = torch.autograd.grad(soft_dtw(cost, 1e-3).sum(), cost)
    hard = alignment(cost, 0.0)
    torch.testing.assert_close(gradient, hard)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_a_sequence_with_a_held_frame_has_distance_zero(backend):
    x = torch.tensor([0.0, 1, 2]).view(1, 3, 1)
    y = torch.tensor([0.0, 0, 1, 2]).view(1, 4, 1)
    assert pair_soft_dtw(x, y, 0.0, backend=backend).item() == 0
    cost = (x[0] - y[0].T).square()
    path = alignment(cost, 0.0, backend=backend)
    assert path.nonzero().tolist() == [[0, 0], [0, 1], [1, 2], [2, 3]]


def test_equal_paths_prefer_the_diagonal():
    assert torch.equal(alignment(torch.zeros(1, 3, 3), 0.0)[0], torch.eye(3))
    assert alignment(torch.zeros(2, 3), 0.0).nonzero().tolist() == [[0, 0], [0, 1], [1, 2]]


def test_small_gamma_approaches_the_minimum():
    cost = normal(4, 6, 7, seed=1).abs()
    torch.testing.assert_close(soft_dtw(cost, 1e-6), soft_dtw(cost, 0.0), rtol=1e-4, atol=1e-4)
    assert (soft_dtw(cost, 0.5) < soft_dtw(cost, 0.0)).all()


@pytest.mark.parametrize("backend", FORMS)
def test_half_precision_batches_of_batches_and_the_same_bits_twice(backend):
    cost = normal(2, 3, 5, 6, seed=1, dtype=torch.bfloat16)
    value = soft_dtw(cost, backend=backend)
    assert value.shape == (2, 3)
    assert value.dtype == torch.float32
    assert torch.equal(value, soft_dtw(cost, backend=backend))
    torch.testing.assert_close(value, soft_dtw(cost.double(), backend="reference").float(), rtol=1e-5, atol=1e-5)


def test_wrong_input_is_explained():
    cost = torch.ones(2, 3, 4)
    for options, message in (
        ({"gamma": -1.0}, ">= 0"),
        ({"x_lengths": torch.tensor([1, 4])}, r"1\.\.3"),
        ({"y_lengths": torch.tensor([1.0, 4])}, "integers"),
        ({"cost": torch.ones(2, 0, 4)}, "not empty"),
    ):
        with pytest.raises(ValueError, match=message):
            soft_dtw(**({"cost": cost} | options))
