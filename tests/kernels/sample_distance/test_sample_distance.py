"""Match probabilities of sampled embeddings against their definition in float64."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow.kernels.sample_distance.chunked as chunked
import mmflow.kernels.sample_distance.fused as fused
import mmflow.kernels.tiles as tiles
from mmflow.kernels.sample_distance import match_log_probability, sample_contrast

pytestmark = pytest.mark.slow

FORMS = ["chunked"]
if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():
    FORMS.append("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def samples(n, j, d, seed):
    x = torch.randn(n, j, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / d**0.5
    return x.to(DEVICE)


def run(function, leaves, dtype, backend):
    leaves = [v.detach().to(dtype).requires_grad_() for v in leaves]
    result = function(*leaves, backend=backend)
    outputs = result if isinstance(result, tuple) else (result,)
    weight = torch.Generator().manual_seed(7)
    weights = (torch.randn(o.shape, generator=weight, dtype=torch.float64).to(DEVICE) for o in outputs)
    sum((o.double() * w).sum() for o, w in zip(outputs, weights, strict=True)).backward()
    return [o.detach() for o in outputs], [v.grad for v in leaves]


def compare(function, leaves, backend, dtype=torch.float32, tolerance=1e-5):
    leaves = [v.to(dtype).double() for v in leaves]
    expected, expected_gradients = run(function, leaves, torch.float64, "reference")
    found, gradients = run(function, leaves, dtype, backend)
    for f, e in zip(found, expected, strict=True):
        # A log-mean near 0 carries the rounding of the logs that it is the difference of.
        torch.testing.assert_close(f.double(), e, rtol=tolerance, atol=max(2e-6, tolerance / 10))
    for f, e in zip(gradients, expected_gradients, strict=True):
        assert float((f.double() - e).norm()) < tolerance * float(e.norm()) + 1e-12


def parameters(a, b):
    return [torch.tensor(v, dtype=torch.float64, device=DEVICE) for v in (a, b)]


@pytest.mark.parametrize("backend", FORMS)
@settings(max_examples=20, deadline=None)
@given(
    n=st.sampled_from([1, 4, 9]), m=st.sampled_from([1, 7]), j=st.sampled_from([1, 3, 7]), k=st.sampled_from([1, 7]),
    d=st.sampled_from([5, 33]), a=st.sampled_from([1.0, 15.0]), kept=st.sampled_from([0, 1 << 30]),
)  # fmt: skip
def test_values_and_gradients_are_those_of_the_definition(backend, n, m, j, k, d, a, kept):
    before = tiles.KEPT_BYTES, chunked.TILE_BYTES, fused._TILE_BYTES
    tiles.KEPT_BYTES, chunked.TILE_BYTES, fused._TILE_BYTES = kept, 2000, 2000
    try:
        leaves = [samples(n, j, d, 1), samples(m, k, d, 2), *parameters(a, 0.7 * a)]
        tolerance = 1e-5 * max(1.0, a / 3)
        compare(match_log_probability, leaves, backend, tolerance=tolerance)
        leaves[1] = samples(n, k, d, 2)
        compare(sample_contrast, leaves, backend, tolerance=tolerance)
    finally:
        tiles.KEPT_BYTES, chunked.TILE_BYTES, fused._TILE_BYTES = before


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("shift", [30.0, 300.0])
def test_probabilities_too_small_for_single_precision_keep_their_logarithm(backend, shift):
    leaves = [samples(5, 3, 33, 1), samples(6, 4, 33, 2), *parameters(100.0, shift)]
    logs = match_log_probability(*leaves, backend="reference")
    assert min(float(log.min()) for log in logs) < -100
    compare(match_log_probability, leaves, backend, tolerance=2e-4)
    leaves[1] = samples(5, 4, 33, 2)
    compare(sample_contrast, leaves, backend, tolerance=2e-4)


def test_a_probability_next_to_one_keeps_its_digits():
    x, y = samples(4, 3, 9, 1), samples(4, 2, 9, 2)
    expected = match_log_probability(x, y, 5.0, 14.0, backend="reference")[0]
    found = match_log_probability(x.float(), y.float(), 5.0, 14.0, backend="chunked")[0]
    assert float(expected.abs().max()) < 5e-3
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=0)


def test_no_distance_of_all_samples_is_kept(largest_tensor, monkeypatch):
    monkeypatch.setattr(chunked, "TILE_BYTES", 1 << 16)
    x, y = samples(60, 5, 8, 1).float().requires_grad_(), samples(60, 5, 8, 2).float()
    with largest_tensor:
        sample_contrast(x, y, 5.0, 5.0, backend="chunked").backward()
    assert largest_tensor.bytes <= 1 << 14 < 4 * 60 * 60 * 25 // 10


def test_gradcheck():
    leaves = [t.requires_grad_() for t in (samples(3, 2, 4, 1), samples(3, 3, 4, 2), *parameters(2.0, 1.0))]
    assert torch.autograd.gradcheck(lambda *t: match_log_probability(*t, backend="chunked"), leaves)
    assert torch.autograd.gradcheck(lambda *t: sample_contrast(*t, backend="chunked"), leaves)


@pytest.mark.parametrize("backend", ["reference", *FORMS])
def test_known_values(backend):
    one = sample_contrast(
        torch.zeros(1, 1, 1, device=DEVICE), torch.ones(1, 1, 1, device=DEVICE), 1.0, 1.0, backend=backend
    )
    assert one.item() == pytest.approx(0.693147, abs=2e-6)
    x = torch.tensor([[[1.0, 0], [0, 1]], [[-1, 0], [0, -1]]], device=DEVICE)
    y = torch.tensor([[[1.0, 0], [1, 0]], [[-1, 0], [0, -1]]], device=DEVICE)
    assert sample_contrast(x, y, 1.0, 1.0, backend=backend).item() == pytest.approx(1.523018, abs=1e-5)
    match, _ = match_log_probability(x, y, 1.0, 1.0, backend=backend)
    assert match.diagonal().exp().tolist() == pytest.approx([0.5923, 0.5923], abs=1e-4)


@pytest.mark.parametrize("backend", FORMS)
def test_match_and_its_complement_sum_to_one_and_far_samples_stay_finite(backend):
    x, y = samples(4, 3, 5, 1).float(), samples(6, 2, 5, 2).float()
    match, no_match = match_log_probability(x, y, 5.0, 5.0, backend=backend)
    torch.testing.assert_close(match.exp() + no_match.exp(), torch.ones_like(match))
    x = (1000 * samples(3, 2, 5, 1)).float().requires_grad_()
    loss = sample_contrast(x, samples(3, 2, 5, 2).float(), 15.0, 15.0, backend=backend)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("backend", FORMS)
def test_same_bits_twice_and_half_precision(backend):
    leaves = [samples(5, 7, 9, 1), samples(5, 7, 9, 2), *parameters(5.0, 5.0)]
    (first, g1), (second, g2) = (run(match_log_probability, leaves, torch.float32, backend) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip([*first, *g1], [*second, *g2], strict=True))
    compare(match_log_probability, leaves, backend, torch.bfloat16, 2e-2)
    compare(match_log_probability, leaves, backend, torch.float16, 2e-2)


@pytest.mark.parametrize("backend", FORMS)
def test_samples_that_are_not_contiguous_and_nan(backend):
    x = samples(9, 3, 5, 1).float().transpose(0, 2)
    assert not x.is_contiguous()
    compare(match_log_probability, [x, samples(4, 2, 9, 2), *parameters(2.0, 1.0)], backend)
    x = x.contiguous()
    x[1, 2, 3] = torch.nan
    match, no_match = match_log_probability(x, samples(4, 2, 9, 2).float(), 2.0, 1.0, backend=backend)
    assert match[1].isnan().all()
    assert no_match[1].isnan().all()


@pytest.mark.skipif("triton" not in FORMS, reason="needs a GPU or Triton's interpreter")
def test_more_samples_than_a_tile_holds_have_no_triton_form(monkeypatch):
    x, y = samples(1, 65, 3, 1).float(), samples(2, 2, 3, 2).float()
    with pytest.raises(ValueError, match="at most 64"):
        match_log_probability(x, y, 1.0, 1.0, backend="triton")
    streamed = match_log_probability(x, y, 1.0, 1.0, backend="chunked")
    monkeypatch.setenv("MMFLOW_KERNELS", "triton")
    assert torch.equal(match_log_probability(x, y, 1.0, 1.0)[0], streamed[0])
    compare(match_log_probability, [samples(2, 64, 3, 1), y, *parameters(2.0, 1.0)], "triton")


def test_wrong_input_is_explained():
    with pytest.raises(ValueError, match="not empty"):
        match_log_probability(torch.ones(0, 2, 3), torch.ones(1, 2, 3), 1.0, 1.0)
    with pytest.raises(ValueError, match="item i of x"):
        sample_contrast(torch.ones(3, 2, 3), torch.ones(1, 2, 3), 1.0, 1.0)
