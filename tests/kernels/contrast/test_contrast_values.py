"""The streamed contrastive losses against their definitions in float64: values and every gradient."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mmflow.kernels import contrast_blocks, info_nce, sigmoid_contrast, soft_contrast, sup_con

EXACT = 1e-12


def unit(*shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)
    return rows.to(dtype).requires_grad_()


def bits(n, seed, share=0.6):
    return torch.rand(n, generator=torch.Generator().manual_seed(seed)) < share


def weights(*shape, seed):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def groups(n, seed, count=6):
    return torch.randint(count, (n,), generator=torch.Generator().manual_seed(seed))


def with_gradients(loss, inputs):
    # a value per row is weighted unevenly, so that a wrong row shows
    total = loss if loss.dim() == 0 else (loss * torch.linspace(0.5, 1.5, len(loss), dtype=loss.dtype)).sum()
    return [loss, *torch.autograd.grad(total, inputs)]


def distance(found, truth):
    """The largest relative distance, in norm; a truth of 0 is compared absolutely."""
    worst = 0.0
    for a, b in zip(found, truth, strict=True):
        a, b = a.detach().double(), b.detach().double()
        assert a.shape == b.shape
        assert bool(torch.isfinite(a).all())
        worst = max(worst, float((a - b).norm() / b.norm().clamp_min(1e-9 if a.dim() else 1.0)))
    return worst


N, Q = 37, 11
OPTIONS = {
    "plain": {},
    "forward": {"directions": "forward"},
    "backward": {"directions": "backward"},
    "per pair": {"reduction": "none"},
    "sum": {"reduction": "sum"},
    "smoothing": {"label_smoothing": 0.1},
    "several positives": {"x_ids": groups(N, 1), "y_ids": groups(N, 2)},
    "several positives inside": {"x_ids": groups(N, 1), "y_ids": groups(N, 2), "positives": "inside"},
    "decoupled": {"positive_in_denominator": False},
    "decoupled by ids": {"x_ids": groups(N, 1), "positive_in_denominator": False},
    "same id is no negative": {"x_ids": groups(N, 1), "exclude": "same_id"},
    "not itself": {"x_ids": groups(N, 1), "exclude": ("self",)},
    "other views": {"x_ids": groups(N, 1), "x_views": groups(N, 3, 2), "exclude": "same_view", "label_smoothing": 0.1},
    "absent": {"x_present": bits(N, 4), "y_present": bits(N, 5)},
    "absent by ids": {"x_ids": groups(N, 1), "x_present": bits(N, 4), "positives": "inside"},
    "row weights": {"row_weights": weights(N, seed=6), "column_weights": weights(N, seed=7)},
    "pair weights": {"pair_weights": weights(N, N, seed=8)},
    "queue": {"negatives": unit(Q, 8, seed=9), "negatives_present": bits(Q, 10), "label_smoothing": 0.2},
    "queue, all absent": {"negatives": unit(Q, 8, seed=9), "negatives_present": torch.zeros(Q, dtype=torch.bool)},
    "queue alone": {"negatives": unit(Q, 8, seed=9), "in_batch": False, "directions": "forward"},
    "private": {"private_negatives": unit(N, 5, 8, seed=11), "private_present": bits((N, 5), 12)},
    "private and queue": {
        "private_negatives": unit(N, 5, 8, seed=11),
        "negatives": unit(Q, 8, seed=9),
        "in_batch": False,
        "directions": "forward",
        "label_smoothing": 0.3,
    },
}


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_info_nce_is_exact_in_float64(name, per_column, small_tiles):
    options = OPTIONS[name]
    x, y = unit(N, 8, seed=20), unit(N, 8, seed=21)
    if per_column:
        if "private_negatives" in options:
            pytest.skip("private negatives have one temperature")
        columns = N + (Q if "negatives" in options else 0)
        temperature = (weights(columns, seed=22) + 0.1).requires_grad_()
    else:
        temperature = torch.tensor(0.07, dtype=torch.float64, requires_grad=True)
    inputs = [x, y, temperature, *(v for k, v in options.items() if k in ("negatives", "private_negatives"))]
    if options.get("negatives_present", torch.ones(1)).sum() == 0:
        inputs = inputs[:3]
    truth = with_gradients(info_nce(x, y, temperature=temperature, backend="reference", **options), inputs)
    found = with_gradients(info_nce(x, y, temperature=temperature, backend="chunked", **options), inputs)
    assert distance(found, truth) < EXACT


@pytest.mark.parametrize("name", [k for k in OPTIONS if "private" not in k])
def test_blocks_of_any_score_equal_info_nce(name):
    options = dict(OPTIONS[name])
    x, y = unit(N, 8, seed=20), unit(N, 8, seed=21)
    temperature = torch.tensor(0.07, dtype=torch.float64, requires_grad=True)
    inputs = [x, y, temperature]
    truth = with_gradients(info_nce(x, y, temperature=temperature, backend="reference", **options), inputs)
    if "negatives" in options:
        options["negatives"] = {"z": options["negatives"]}
    loss = contrast_blocks(
        lambda a, b: a["z"] @ b["z"].T, {"z": x}, {"z": y}, temperature=temperature, block=10, **options
    )
    assert distance(with_gradients(loss, inputs), truth) < EXACT


SIGMOID = {
    "plain": {},
    "per row": {"reduction": "none"},
    "sum": {"reduction": "sum"},
    "several positives": {"x_ids": groups(N, 1), "y_ids": groups(N, 2)},
    "same id is no negative": {"x_ids": groups(N, 1), "exclude": "same_id"},
    "queue": {"negatives": unit(Q, 8, seed=9), "negatives_present": bits(Q, 10)},
    "row weights": {"row_weights": weights(N, seed=6)},
    "pair weights": {"pair_weights": weights(N, N, seed=8), "reduction": "sum"},
    "absent": {"x_present": bits(N, 4), "y_present": bits(N, 5), "exclude": "self", "x_ids": groups(N, 1)},
}


@pytest.mark.parametrize("scale", [10.0, 100.0])
@pytest.mark.parametrize("name", SIGMOID)
def test_every_option_of_sigmoid_contrast_is_exact_in_float64(name, scale, small_tiles):
    options = dict(SIGMOID[name])
    x, y = unit(N, 8, seed=20), unit(N, 8, seed=21)
    temperature = torch.tensor(1 / scale, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-9.0, dtype=torch.float64, requires_grad=True)
    inputs = [x, y, temperature, bias]
    call = {"temperature": temperature, "bias": bias}
    truth = with_gradients(sigmoid_contrast(x, y, backend="reference", **call, **options), inputs)
    found = with_gradients(sigmoid_contrast(x, y, backend="chunked", **call, **options), inputs)
    assert distance(found, truth) < EXACT
    if "negatives" in options:
        options["negatives"] = {"z": options["negatives"]}
    blocks = contrast_blocks(
        lambda a, b: a["z"] @ b["z"].T, {"z": x}, {"z": y}, form="sigmoid", block=10, **call, **options
    )
    assert distance(with_gradients(blocks, inputs), truth) < EXACT


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 3},
        {"hard": 0.3},
        {"directions": "forward", "exclude": "self"},
        {"x_present": bits(N, 4), "y_present": bits(N, 5), "top_k": 4},
        {"reduction": "none", "hard": 1.0},
    ],
)
def test_soft_targets_are_exact_in_float64(options, small_tiles):
    x, y, a, b = (unit(N, 8, seed=k) for k in range(4))
    temperature = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    inputs = [x, y, temperature]
    call = {"temperature": temperature, "teacher_temperature": 0.05} | options
    truth = with_gradients(soft_contrast(x, y, a, b, backend="reference", **call), inputs)
    found = with_gradients(soft_contrast(x, y, a, b, backend="chunked", **call), inputs)
    assert distance(found, truth) < EXACT


def test_hard_soft_targets_are_info_nce():
    x, y, a, b = (unit(9, 4, seed=k) for k in range(4))
    soft = soft_contrast(x, y, a, b, temperature=0.1, teacher_temperature=0.1, hard=1.0)
    torch.testing.assert_close(soft, info_nce(x, y, temperature=0.1), rtol=1e-12, atol=0)


def test_published_forms():
    x, y = unit(12, 6, seed=0), unit(12, 6, seed=1)
    logits = x @ y.T / 0.1
    here = torch.arange(12)
    clip = (F.cross_entropy(logits, here) + F.cross_entropy(logits.T, here)) / 2
    torch.testing.assert_close(info_nce(x, y, temperature=0.1), clip, rtol=1e-12, atol=0)
    sign = 2 * torch.eye(12, dtype=torch.float64) - 1
    siglip = -F.logsigmoid(sign * (logits - 3.0)).sum() / 12
    torch.testing.assert_close(sigmoid_contrast(x, y, temperature=0.1, bias=-3.0), siglip, rtol=1e-12, atol=0)
    smooth = F.cross_entropy(logits, here, label_smoothing=0.2)
    ours = info_nce(x, y, temperature=0.1, directions="forward", label_smoothing=0.2)
    torch.testing.assert_close(ours, smooth, rtol=1e-12, atol=0)


def test_nt_xent_is_sup_con_over_two_views():
    z = torch.cat([unit(7, 6, seed=0), unit(7, 6, seed=1)])
    scores = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)
    partner = torch.arange(14).roll(7)
    truth = F.cross_entropy(scores, partner)
    ours = sup_con(z, torch.arange(7).repeat(2), temperature=0.5)
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=0)


def test_moco_scores_a_row_against_its_key_and_the_queue():
    q, k, queue = unit(6, 4, seed=0), unit(6, 4, seed=1), unit(20, 4, seed=2)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / 0.07
    truth = F.cross_entropy(logits, torch.zeros(6, dtype=torch.long))
    ours = info_nce(q, k, temperature=0.07, negatives=queue, in_batch=False, directions="forward")
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=0)


sizes = st.integers(1, 70)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=sizes,
    m=sizes,
    d=st.integers(1, 40),
    scale=st.sampled_from([1.0, 14.3, 100.0, 400.0]),
    copies=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    directions=st.sampled_from(["both", "forward", "backward"]),
    seed=st.integers(0, 99),
)
def test_info_nce_in_single_and_half_precision(n, m, d, scale, copies, dtype, directions, seed, small_tiles):
    x, y = unit(n, d, seed=seed, dtype=dtype), unit(m, d, seed=seed + 1, dtype=dtype)
    ids = {"x_ids": groups(n, seed), "y_ids": groups(m, seed + 1)}
    if copies:
        x = x.detach()[torch.arange(n) // 2].requires_grad_()
    t = torch.tensor(1 / scale, requires_grad=True)
    found = with_gradients(info_nce(x, y, temperature=t, directions=directions, **ids), [x, y, t])
    x2, y2, t2 = (v.detach().double().requires_grad_() for v in (x, y, t))
    truth = with_gradients(
        info_nce(x2, y2, temperature=t2, directions=directions, backend="reference", **ids), [x2, y2, t2]
    )
    # a score of 400 carries a rounding of 400 * 6e-8, which exp turns into a relative one and the scale multiplies
    rounding = 6e-8 * scale
    tolerance = max(1e-5, rounding) if dtype == torch.float32 else 2e-2
    for a, b in zip(found[:3], truth[:3], strict=True):
        assert bool(torch.isfinite(a).all())
        assert float((a.double() - b).norm()) <= tolerance * float(b.norm()) + 1e-6 + rounding * scale
    assert found[1].dtype == dtype


@pytest.mark.parametrize("scale", [5.0, 100.0])
def test_large_batch_in_single_precision(scale):
    x, y = unit(1500, 64, seed=0, dtype=torch.float32), unit(1500, 64, seed=1, dtype=torch.float32)
    y = F.normalize(y.detach() + 0.5 * x.detach(), dim=1).requires_grad_()
    t = torch.tensor(1 / scale, requires_grad=True)
    x2, y2, t2 = (v.detach().double().requires_grad_() for v in (x, y, t))
    for loss in (info_nce, sigmoid_contrast):
        found = with_gradients(loss(x, y, temperature=t), [x, y, t])
        truth = with_gradients(loss(x2, y2, temperature=t2, backend="reference"), [x2, y2, t2])
        assert distance(found, truth) < 1e-5


def test_scores_beyond_the_range_of_one_shift():
    x, y = unit(50, 8, seed=0), unit(50, 8, seed=1)
    x32, y32 = (v.detach().float().mul(30).requires_grad_() for v in (x, y))
    x64, y64 = (v.detach().double().requires_grad_() for v in (x32, y32))
    found = with_gradients(info_nce(x32, y32, temperature=0.5), [x32, y32])
    truth = with_gradients(info_nce(x64, y64, temperature=0.5, backend="reference"), [x64, y64])
    # scores reach 1800, whose rounding is 1e-4
    assert distance(found, truth) < 2e-4


def test_rows_far_below_the_shift_are_summed_again():
    x = F.normalize(unit(40, 8, seed=0).detach() * 0.05 + 1, dim=1).float()
    y = -F.normalize(unit(40, 8, seed=1).detach() * 0.05 + 1, dim=1).float()
    # every score is near -100, and exp(-100 - shift) is 0
    inputs32 = [x.requires_grad_(), y.requires_grad_()]
    inputs64 = [v.detach().double().requires_grad_() for v in inputs32]
    found = with_gradients(info_nce(*inputs32, temperature=0.01), inputs32)
    truth = with_gradients(info_nce(*inputs64, temperature=0.01, backend="reference"), inputs64)
    # the rounding of scores near 100 stays while the gradient, a difference of nearly equal rows, is small
    assert distance(found, truth) < 2e-4


@pytest.mark.parametrize("scale", [8.5, 9.5])
def test_sigmoid_products_do_not_overflow(scale):
    # (1 + exp(8.5))^8 is the largest product that is formed; beyond it each pair has its own logarithm
    x = torch.zeros(64, 4)
    x[:, 0] = 1
    loss = sigmoid_contrast(x, x, temperature=1 / scale, x_ids=torch.arange(64), exclude="self")
    torch.testing.assert_close(
        loss.double(), 63 * F.softplus(torch.tensor(scale, dtype=torch.float64)), rtol=1e-6, atol=0
    )


def test_medium_precision_is_within_half_precision_of_the_definition():
    x, y = unit(300, 64, seed=0, dtype=torch.float32), unit(300, 64, seed=1, dtype=torch.float32)
    x2, y2 = (v.detach().double().requires_grad_() for v in (x, y))
    truth = with_gradients(info_nce(x2, y2, temperature=0.07, backend="reference"), [x2, y2])
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = with_gradients(info_nce(x, y, temperature=0.07), [x, y])
    finally:
        torch.set_float32_matmul_precision(before)
    assert distance(found, truth) < 2e-2
