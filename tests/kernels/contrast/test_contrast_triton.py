"""Every Triton kernel of the contrastive core against float64, on the GPU, or interpreted where there is none."""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mmflow.kernels import info_nce, sigmoid_contrast, soft_contrast

pytest.importorskip("triton")
# the interpreter warns where a branch that is not taken overflows
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def unit(*shape, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1).to(DEVICE, dtype).requires_grad_()


def some(count, n, seed):
    return torch.randint(count, (n,), generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def compare(loss, inputs, tolerance, twice=DEVICE == "cuda", **options):
    def values(tensors, backend):
        x, y, *rest = tensors
        names = ("temperature", "bias", "negatives")
        total = loss(x, y, **dict(zip(names, rest, strict=False)), backend=backend, **options)
        weighted = (total * torch.linspace(0.5, 1.5, total.numel(), device=total.device).to(total.dtype)).sum()
        return [total, *torch.autograd.grad(weighted, tensors)]

    found = values(inputs, "triton")
    truth = values([t.detach().double().requires_grad_() for t in inputs], "reference")
    for a, b in zip(found, truth, strict=True):
        assert bool(torch.isfinite(a).all())
        floor = 1e-9 if a.dim() else 1e-3
        assert float((a.detach().double() - b.detach()).norm() / b.detach().norm().clamp_min(floor)) < tolerance
    if twice:
        again = values(inputs, "triton")
        assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


RULES = {
    "plain": {},
    "per row": {"reduction": "none"},
    "ids": {"x_ids": some(6, 70, 1), "y_ids": some(6, 70, 2)},
    "same id": {"x_ids": some(6, 70, 1), "exclude": "same_id"},
    "views": {"x_ids": some(6, 70, 1), "x_views": some(2, 70, 3), "exclude": ("self", "same_view")},
    "absent": {"x_present": some(3, 70, 4) > 0, "y_present": some(3, 70, 5) > 0},
}


@pytest.mark.parametrize("rules", RULES)
def test_rules(rules):
    x, y = unit(70, 24, seed=0), unit(70, 24, seed=1)
    t = torch.tensor(0.07, device=DEVICE, requires_grad=True)
    bias = torch.tensor(-3.0, device=DEVICE, requires_grad=True)
    compare(info_nce, [x, y, t], 1e-5, twice=True, **RULES[rules])
    compare(sigmoid_contrast, [x, y, t, bias], 1e-5, twice=True, **RULES[rules])


def weights(seed=5):
    return torch.rand(70, 70, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize(
    "given",
    [weights(), weights()[:1].expand(70, 70), weights().T.bfloat16(), weights() > 0.4],
    ids=["matrix", "expanded", "transposed bfloat16", "boolean"],
)
def test_pair_weights_in_their_own_strides_and_dtype(given):
    x, y = unit(70, 24, seed=0), unit(70, 24, seed=1)
    t = torch.tensor(0.07, device=DEVICE, requires_grad=True)
    bias = torch.tensor(-3.0, device=DEVICE, requires_grad=True)
    compare(info_nce, [x, y, t], 1e-5, pair_weights=given, x_ids=some(6, 70, 1))
    compare(sigmoid_contrast, [x, y, t, bias], 1e-5, pair_weights=given, x_present=some(3, 70, 4) > 0)


@pytest.mark.parametrize("backend", ["chunked", "triton"])
def test_a_pair_of_weight_0_may_score_beyond_all_others(backend):
    x, y = unit(30, 24, seed=0), unit(30, 24, seed=1)
    t = torch.tensor(0.002, device=DEVICE, requires_grad=True)
    # each row's highest score is weighted out; it lies some hundreds above the rest
    highest = (x @ y.T).detach()
    given = ((highest < highest.amax(1, keepdim=True)) & (highest < highest.amax(0))).float()

    def run(x, y, t, given, backend):
        value = info_nce(x, y, temperature=t, pair_weights=given, positive_in_denominator=False, backend=backend)
        return [value, *torch.autograd.grad(value, [x, y, t])]

    found = run(x, y, t, given, backend)
    truth = run(*(v.detach().double().requires_grad_() for v in (x, y, t)), given.double(), "reference")
    for a, b in zip(found, truth, strict=True):
        assert float((a.detach().double() - b.detach()).norm() / b.detach().norm()) < 5e-5


@pytest.mark.parametrize(
    "options",
    [
        {"y_ids": some(6, 70, 2)},
        {"positive_in_denominator": False, "directions": "forward"},
        {"exclude": "self", "label_smoothing": 0.1, "pair_weights": weights(), "directions": "backward"},
        {"x_present": some(3, 70, 4) > 0, "reduction": "none"},
    ],
    ids=["both", "decoupled", "smoothed and weighted", "absent"],
)
def test_positives_inside_the_logarithm(options):
    x, y = unit(70, 24, seed=0), unit(70, 24, seed=1)
    for t, tolerance in ((0.07, 1e-5), (0.002, 5e-5)):
        temperature = torch.tensor(t, device=DEVICE, requires_grad=True)
        compare(
            info_nce, [x, y, temperature], tolerance, x_ids=some(6, 70, 1), positives="inside", **options
        )  # fmt: skip


def taught(a, b):
    def loss(x, y, *, temperature, backend, **options):
        own = (v.double() if x.dtype == torch.float64 else v for v in (a, b))
        return soft_contrast(x, y, *own, temperature=temperature, backend=backend, **options)

    return loss


@pytest.fixture
def two_super_tiles(monkeypatch):
    """The teacher's scores cross several super-tiles, as those of the losses do when interpreted."""
    if DEVICE == "cpu":
        monkeypatch.setattr("mmflow.kernels.contrast.targets.fused.FusedTeacher.step", 64)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hard": 0.3, "directions": "forward"},
        {"top_k": 5, "exclude": "self"},
        {"top_k": 3, "hard": 0.2, "x_present": some(3, 70, 4) > 0, "y_present": some(4, 70, 6) > 0},
        {"top_k": 1, "directions": "backward", "reduction": "none"},
        {"x_present": torch.zeros(70, device=DEVICE) > 0},
    ],
    ids=["plain", "mixed", "top 5", "absent", "top 1 of columns", "all absent"],
)
def test_soft_targets(options, two_super_tiles):
    x, y, a, b = unit(70, 24, seed=0), unit(70, 24, seed=1), unit(70, 20, seed=2), unit(70, 20, seed=3)
    t = torch.tensor(0.07, device=DEVICE, requires_grad=True)
    compare(taught(a, b), [x, y, t], 1e-5, teacher_temperature=0.05, **options)


def test_soft_targets_of_other_sizes_dtypes_and_ranges(two_super_tiles):
    t = torch.tensor(0.07, device=DEVICE, requires_grad=True)
    per_column = (torch.rand(70, generator=torch.Generator().manual_seed(3)) * 0.2 + 0.05).to(DEVICE)
    x, y = unit(70, 24, seed=0), unit(70, 24, seed=1)
    a, b = unit(70, 41, seed=2), unit(41, 70, seed=3).detach().T
    compare(taught(a, b), [x, y, t], 1e-5, teacher_temperature=per_column)
    # the student's scores, then the teacher's, beyond the range of one shift
    compare(taught(a, b), [x, y, torch.tensor(0.002, device=DEVICE, requires_grad=True)], 5e-5, teacher_temperature=0.1)
    compare(taught(a, b), [x, y, t], 5e-5, teacher_temperature=0.002)
    compare(taught(a, b), [x, y, t], 5e-5, teacher_temperature=0.002, top_k=4)
    narrow = unit(33, 8, seed=0), unit(50, 8, seed=1)
    compare(taught(unit(33, 5, seed=2), unit(50, 5, seed=3)), [*narrow, t], 1e-5, teacher_temperature=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_soft_targets_in_half_precision(dtype):
    t = torch.tensor(0.07, device=DEVICE, requires_grad=True)
    teacher = [unit(40, 20, seed=k, dtype=dtype) for k in (2, 3)]
    students = [unit(40, 24, seed=k, dtype=dtype) for k in (0, 1)]
    compare(taught(*teacher), [*students, t], 2e-2, teacher_temperature=0.05, top_k=6)


def test_tied_teachers_keep_all_their_ties(two_super_tiles):
    x, y = unit(70, 24, seed=0), unit(70, 24, seed=1)
    a, b = (unit(7, 20, seed=k).detach().repeat_interleave(10, 0) for k in (2, 3))
    t = torch.tensor(0.07, device=DEVICE, requires_grad=True)
    # ten columns share the highest score of a row, and the bar falls among them
    compare(taught(a, b), [x, y, t], 1e-5, teacher_temperature=0.05, top_k=4)


@pytest.mark.parametrize(
    "options",
    [
        {"directions": "forward"},
        {"directions": "backward", "label_smoothing": 0.1},
        {"positive_in_denominator": False, "label_smoothing": 0.2},
        {"x_ids": some(6, 70, 1), "label_smoothing": 0.1},
    ],
)
def test_options_of_info_nce(options):
    t = torch.tensor(0.07, device=DEVICE, requires_grad=True)
    compare(info_nce, [unit(70, 24, seed=0), unit(70, 24, seed=1), t], 1e-5, **options)


def test_a_temperature_for_each_column():
    t = (torch.rand(70, generator=torch.Generator().manual_seed(3)) * 0.3 + 0.05).to(DEVICE).requires_grad_()
    bias = torch.tensor(-3.0, device=DEVICE, requires_grad=True)
    x, y = unit(70, 24, seed=0), unit(70, 24, seed=1)
    compare(info_nce, [x, y, t], 1e-5)
    compare(sigmoid_contrast, [x, y, t, bias], 1e-5)
    # beyond the range of one shift
    compare(info_nce, [x, y, (t.detach() / 40).requires_grad_()], 5e-5)


def test_scores_beyond_the_range_of_one_shift_are_summed_again():
    t = torch.tensor(0.002, device=DEVICE, requires_grad=True)
    compare(info_nce, [unit(70, 24, seed=0), unit(70, 24, seed=1), t], 5e-5)
    compare(info_nce, [unit(70, 24, seed=0), unit(70, 24, seed=1), t], 5e-5, x_ids=some(6, 70, 1), exclude="self")
    opposite = (-unit(20, 8, seed=0).detach() + 1e-3).requires_grad_()
    compare(info_nce, [unit(20, 8, seed=0), opposite, torch.tensor(0.01, device=DEVICE, requires_grad=True)], 5e-5)


@pytest.mark.parametrize("bias", [-4.0, -12.0])
def test_small_sigmoid_losses_keep_their_digits(bias):
    # without positives every loss is log(1 + t) of a small t: 0.02, then 6e-6
    apart = {"x_ids": torch.arange(33, device=DEVICE), "y_ids": torch.arange(33, device=DEVICE) + 100}
    inputs = [unit(33, 24, seed=0), unit(33, 24, seed=1), torch.tensor(1.0, device=DEVICE, requires_grad=True)]
    compare(sigmoid_contrast, inputs, 2e-6, bias=bias, reduction="none", **apart)


# the interpreter is slow: no shrinking
@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    n=st.integers(1, 70),
    m=st.integers(1, 70),
    d=st.integers(1, 40),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    loss=st.sampled_from([info_nce, sigmoid_contrast]),
)
def test_any_size_and_dtype(n, m, d, dtype, loss):
    x, y = unit(n, d, seed=n, dtype=dtype), unit(m, d, seed=m + 100, dtype=dtype)
    t = torch.tensor(0.2, device=DEVICE, requires_grad=True)
    ids = {"x_ids": some(5, n, 1), "y_ids": some(5, m, 2)}
    value = loss(x, y, temperature=t, backend="triton", **ids)
    found = [value, *torch.autograd.grad(value, [x, y, t])]
    x2, y2, t2 = (v.detach().double().requires_grad_() for v in (x, y, t))
    value = loss(x2, y2, temperature=t2, backend="reference", **ids)
    truth = [value, *torch.autograd.grad(value, [x2, y2, t2])]
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for a, b in zip(found, truth, strict=True):
        assert bool(torch.isfinite(a).all())
        a, b = a.detach().double(), b.detach()
        assert float((a - b).norm()) < tolerance * float(b.norm()) + 2e-6
    assert found[1].dtype == dtype


def test_empty_rows_cost_nothing():
    x, y = unit(20, 8, seed=0), unit(20, 8, seed=1)
    for t in (0.1, 0.001):
        loss = info_nce(x, y, temperature=t, x_present=torch.zeros(20, dtype=torch.bool), backend="triton")
        assert float(loss.detach()) == 0
        assert not any(bool(g.any()) for g in torch.autograd.grad(loss, [x, y]))


def test_queue_and_mixed_dtypes():
    x, y = unit(33, 8, seed=0, dtype=torch.bfloat16), unit(33, 8, seed=1)
    queue = unit(50, 8, seed=2)
    inputs = [x, y, queue]
    options = {"temperature": 0.1, "negatives": queue, "negatives_present": some(3, 50, 1) > 0}
    for loss in (info_nce, sigmoid_contrast):
        found = torch.autograd.grad(loss(x, y, backend="triton", **options), inputs)
        truth = torch.autograd.grad(loss(x, y, backend="chunked", **options), inputs)
        for a, b in zip(found, truth, strict=True):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=1e-2 if a.dtype == torch.bfloat16 else 1e-4, atol=1e-6)


def test_what_triton_cannot_take_is_refused_by_name():
    x = unit(4, 3, seed=0)
    with pytest.raises(ValueError, match="pair_weights as a function is computed by the chunked form"):
        info_nce(x, x, temperature=1.0, pair_weights=lambda r, c: torch.ones(4, 4, device=DEVICE), backend="triton")
