"""Late interaction: values and gradients against the definition, and the facts of the method."""

import os

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmflow.kernels.late_interaction import max_sim, max_sim_contrast

pytestmark = pytest.mark.slow

FORMS = ["chunked"]
if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():
    FORMS.append("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def tokens(n, p, d, seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    t = torch.randn(n, p, d, generator=g, dtype=torch.float64)
    return (t / t.norm(dim=2, keepdim=True)).to(dtype).to(DEVICE)


def masks(n, p, seed, empty=()):
    g = torch.Generator().manual_seed(seed)
    m = torch.rand(n, p, generator=g) < 0.7
    m[:, 0] = True
    for i in empty:
        m[i] = False
    return m.to(DEVICE)


def relative(a, b):
    a, b = a.detach(), b.detach()
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-12))


def run(function, leaves, dtype, backend, **options):
    leaves = {k: v.detach().to(dtype).requires_grad_() for k, v in leaves.items()}
    result = function(**leaves, backend=backend, **options)
    outputs = result if isinstance(result, tuple) else (result,)
    g = torch.Generator().manual_seed(7)
    weights = [torch.randn(o.shape, generator=g, dtype=torch.float64).to(DEVICE) for o in outputs]
    sum((o.double() * w).sum() for o, w in zip(outputs, weights, strict=True)).backward()
    return outputs, {k: v.grad for k, v in leaves.items()}


def compare(function, leaves, backend, dtype=torch.float32, tolerance=1e-5, **options):
    leaves = {k: v.to(dtype).double() for k, v in leaves.items()}
    expected, expected_gradients = run(function, leaves, torch.float64, "reference", **options)
    found, gradients = run(function, leaves, dtype, backend, **options)
    for f, e in zip(found, expected, strict=True):
        assert relative(f, e) < tolerance
    for name, e in expected_gradients.items():
        assert gradients[name].dtype == dtype
        if name == "temperature":
            # A sum over all pairs whose terms, tens each, cancel.
            torch.testing.assert_close(gradients[name].double(), e, rtol=tolerance, atol=tolerance)
        elif float(e.norm()) < 1e-12:
            assert float(gradients[name].norm()) < 1e-6
        else:
            assert relative(gradients[name], e) < tolerance, name


@pytest.mark.parametrize("backend", FORMS)
@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(1, 3),
    m=st.integers(1, 4),
    p=st.sampled_from([1, 3, 17, 40]),
    t=st.sampled_from([1, 5, 33]),
    d=st.sampled_from([1, 7, 40]),
    reduce=st.sampled_from(["mean", "sum", "softmax"]),
    masked=st.booleans(),
)
def test_values_and_gradients_are_those_of_the_definition(backend, n, m, p, t, d, reduce, masked):
    leaves = {"x": tokens(n, p, d, 1), "y": tokens(m, t, d, 2)}
    if reduce == "softmax":
        leaves |= {"x_logits": tokens(n, 1, p, 3)[:, 0], "y_logits": tokens(m, 1, t, 4)[:, 0]}
    options = {"x_mask": masks(n, p, 5, [n - 1]), "y_mask": masks(m, t, 6, [0])} if masked else {}
    compare(max_sim, leaves, backend, reduce=reduce, **options)


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("masked", [False, True])
def test_contrast_is_that_of_the_definition(backend, masked):
    leaves = {"x": tokens(5, 20, 24, 1), "y": tokens(5, 13, 24, 2), "temperature": torch.tensor(0.05, device=DEVICE)}
    options = {"x_mask": masks(5, 20, 5, [4]), "y_mask": masks(5, 13, 6, [0])} if masked else {}
    compare(max_sim_contrast, leaves, backend, label_smoothing=0.1, **options)
    compare(max_sim_contrast, leaves, backend, reduction="none", **options)


@pytest.mark.parametrize("backend", FORMS)
def test_half_precision_tokens_give_float32_scores(backend):
    leaves = {"x": tokens(3, 18, 20, 1), "y": tokens(2, 17, 20, 2)}
    for inner in (None, 0.1):
        compare(max_sim, leaves, backend, dtype=torch.bfloat16, tolerance=2e-2, inner_temperature=inner)
        compare(max_sim, leaves, backend, dtype=torch.float16, tolerance=2e-3, inner_temperature=inner)
    x, y = tokens(1, 3, 4, 1, torch.bfloat16), tokens(2, 3, 4, 2, torch.float32)
    assert max_sim(x, y, backend=backend)[0].dtype == torch.float32


@pytest.mark.parametrize("backend", FORMS)
@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(1, 3),
    m=st.integers(1, 4),
    p=st.sampled_from([1, 3, 17, 40]),
    t=st.sampled_from([1, 5, 33]),
    d=st.sampled_from([1, 7, 40]),
    inner=st.sampled_from([0.02, 0.3, 5.0]),
    reduce=st.sampled_from(["mean", "sum", "softmax"]),
    masked=st.booleans(),
)
@example(n=3, m=4, p=17, t=33, d=7, inner=0.02, reduce="softmax", masked=True)
@example(n=3, m=4, p=40, t=5, d=40, inner=0.3, reduce="mean", masked=True)
def test_soft_maximum_is_that_of_the_definition(backend, n, m, p, t, d, inner, reduce, masked):
    leaves = {"x": tokens(n, p, d, 1), "y": tokens(m, t, d, 2)}
    if reduce == "softmax":
        leaves |= {"x_logits": tokens(n, 1, p, 3)[:, 0], "y_logits": tokens(m, 1, t, 4)[:, 0]}
    options = {"x_mask": masks(n, p, 5, [n - 1]), "y_mask": masks(m, t, 6, [0])} if masked else {}
    compare(max_sim, leaves, backend, inner_temperature=inner, reduce=reduce, **options)


@pytest.mark.parametrize("backend", FORMS)
def test_contrast_of_soft_maxima_is_that_of_the_definition(backend):
    leaves = {"x": tokens(5, 20, 24, 1), "y": tokens(5, 13, 24, 2), "temperature": torch.tensor(0.05, device=DEVICE)}
    options = {"x_mask": masks(5, 20, 5, [4]), "y_mask": masks(5, 13, 6, [0]), "inner_temperature": 0.1}
    compare(max_sim_contrast, leaves, backend, label_smoothing=0.1, **options)
    compare(max_sim_contrast, leaves, backend, dtype=torch.bfloat16, tolerance=2e-2, **options)


@pytest.mark.skipif("triton" not in FORMS, reason="no GPU, and Triton's interpreter is off")
@pytest.mark.parametrize("inner", [None, 0.1])
def test_small_tiles_of_pairs_change_nothing(inner, monkeypatch):
    from mmflow.kernels.late_interaction import fused_maxima, fused_soft

    monkeypatch.setattr(fused_maxima, "_INDEX_BYTES", 250)
    monkeypatch.setattr(fused_soft, "_GRADIENT_BYTES", 4000)
    leaves = {"x": tokens(5, 20, 8, 1), "y": tokens(7, 17, 8, 2)}
    compare(max_sim, leaves, "triton", inner_temperature=inner, x_mask=masks(5, 20, 5))


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_a_temperature_is_not_rounded_to_single_precision(backend):
    x, y = tokens(5, 6, 8, 1), tokens(5, 4, 8, 2)
    number = max_sim_contrast(x, y, temperature=0.07, backend=backend)
    assert number.item() == pytest.approx(
        max_sim_contrast(x / 0.07, y, temperature=1.0, backend=backend).item(), rel=1e-13
    )


def test_gradcheck():
    x, y = tokens(3, 20, 6, 1).requires_grad_(), tokens(2, 21, 6, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: max_sim(*a, backend="chunked"), (x, y))
    x, y = tokens(3, 4, 6, 1).requires_grad_(), tokens(2, 3, 6, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: max_sim(*a, inner_temperature=0.3, backend="chunked"), (x, y))
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    y = tokens(3, 3, 6, 2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b, t: max_sim_contrast(a, b, temperature=t, label_smoothing=0.2, backend="chunked"),
        (x, y, temperature),
    )


@pytest.mark.parametrize("kept", [0, 1 << 30])
def test_tiles_kept_and_tiles_computed_again_give_one_result(kept, monkeypatch):
    import mmflow.kernels.late_interaction.chunked as chunked
    import mmflow.kernels.tiles as tiles

    monkeypatch.setattr(tiles, "KEPT_BYTES", kept)
    monkeypatch.setattr(chunked, "TILE_BYTES", 40_000)
    leaves = {"x": tokens(70, 20, 8, 1), "y": tokens(70, 17, 8, 2)}
    compare(max_sim, leaves, "chunked", x_mask=masks(70, 20, 5))
    leaves["temperature"] = torch.tensor(0.2)
    compare(max_sim_contrast, leaves, "chunked", y_mask=masks(70, 17, 5, [3]), label_smoothing=0.1)


@pytest.mark.parametrize("backend", ["reference", *FORMS])
def test_one_token_each_is_the_inner_product(backend):
    x, y = tokens(5, 1, 16, 1, torch.float32), tokens(7, 1, 16, 2, torch.float32)
    s_xy, s_yx = max_sim(x, y, backend=backend)
    torch.testing.assert_close(s_xy, x[:, 0] @ y[:, 0].T)
    torch.testing.assert_close(s_yx, s_xy)


@pytest.mark.parametrize("backend", ["reference", *FORMS])
def test_a_subset_of_orthonormal_tokens_scores_its_share(backend):
    whole = torch.eye(8, device=DEVICE)[None]
    s_xy, s_yx = max_sim(whole, whole[:, :3], backend=backend)
    assert s_xy.item() == pytest.approx(3 / 8)
    assert s_yx.item() == pytest.approx(1.0)


@pytest.mark.parametrize("backend", ["reference", *FORMS])
def test_padding_and_order_of_tokens_change_nothing(backend):
    x, y = tokens(4, 20, 16, 1, torch.float32), tokens(4, 12, 16, 2, torch.float32)
    expected = max_sim_contrast(x, y, backend=backend)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(4))
    padded = torch.cat([x, 9 * tokens(4, 5, 16, 3, torch.float32)], 1)[:, order]
    mask = (order < 20).expand(4, 25).to(DEVICE)
    assert max_sim_contrast(padded, y, x_mask=mask, backend=backend).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("backend", ["reference", *FORMS])
def test_soft_maximum_of_a_known_case(backend):
    eye = torch.eye(3, device=DEVICE)
    s_xy, s_yx = max_sim(eye[None, :2], eye[None], inner_temperature=1.0, backend=backend)
    e = torch.e
    assert s_xy.item() == pytest.approx(e / (e + 2))
    assert s_yx.item() == pytest.approx(2 * e / (3 * (e + 1)))


@pytest.mark.parametrize("backend", FORMS)
def test_items_without_tokens_are_left_out(backend):
    x, y = tokens(4, 6, 8, 1, torch.float32), tokens(4, 5, 8, 2, torch.float32)
    x, y = x.requires_grad_(), y.requires_grad_()
    nothing = torch.zeros(4, 6, dtype=torch.bool, device=DEVICE)
    loss = max_sim_contrast(x, y, x_mask=nothing, backend=backend)
    loss.backward()
    assert loss.item() == 0
    assert x.grad.abs().max().item() == 0
    assert y.grad.abs().max().item() == 0
    some = nothing.clone()
    some[:3] = True
    y_mask = torch.ones(4, 5, dtype=torch.bool, device=DEVICE)
    y_mask[3] = False
    whole = max_sim_contrast(x, y, x_mask=some, y_mask=y_mask, backend=backend)
    assert whole.item() == pytest.approx(max_sim_contrast(x[:3], y[:3], backend=backend).item(), rel=1e-6)


@pytest.mark.parametrize("backend", FORMS)
def test_equal_tokens_send_the_gradient_to_the_first(backend):
    x = torch.ones(1, 1, 4, device=DEVICE)
    y = torch.ones(1, 3, 4, device=DEVICE, requires_grad=True)
    max_sim(x, y, backend=backend)[0].sum().backward()
    assert y.grad[0, :, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("inner", [None, 0.1])
def test_same_bits_twice(backend, inner):
    leaves = {"x": tokens(3, 20, 24, 1), "y": tokens(4, 17, 24, 2)}
    first, first_gradients = run(max_sim, leaves, torch.float32, backend, inner_temperature=inner)
    second, second_gradients = run(max_sim, leaves, torch.float32, backend, inner_temperature=inner)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(first_gradients[k], second_gradients[k]) for k in first_gradients)


def test_autocast_and_strided_tokens_do_not_change_the_result():
    x = tokens(5, 20, 16, 1, torch.float32)
    y = tokens(16, 12, 5, 2, torch.float32).permute(2, 1, 0)
    expected = max_sim(x, y.contiguous())
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = max_sim(x, y)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.ones(3, 4)}, r"x \[N, P, D\]"),
        ({"x": torch.ones(0, 2, 4)}, "x is empty"),
        ({"x_mask": torch.ones(2, 3)}, "x_mask is bool"),
        ({"reduce": "max"}, "known are mean, sum, softmax"),
        ({"reduce": "softmax"}, "takes x_logits"),
        ({"inner_temperature": 0.0}, "> 0"),
    ],
)
def test_wrong_input_is_explained(arguments, message):
    given_ = {"x": torch.ones(2, 3, 4), "y": torch.ones(2, 3, 4)} | arguments
    with pytest.raises(ValueError, match=message):
        max_sim(**given_)
