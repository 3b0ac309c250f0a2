"""Extreme logits, tiny temperatures, equal rows, rows of zeros, one row, one feature: against SciPy and open_clip.

Each form in float32 is at least as exact as the loss over one float32 matrix, and exact where that is.
"""

import importlib.util

import pytest
import torch
from torch.nn import functional as F

from mmflow.kernels import contrast_blocks, info_nce, sigmoid_contrast, soft_contrast, sup_con

np = pytest.importorskip("numpy")
special = pytest.importorskip("scipy.special")
# the interpreter warns where a branch that is not taken overflows
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ABSENT = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
FORMS = ["reference", "chunked", pytest.param("triton", marks=ABSENT)]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(*shape, seed=0):
    return F.normalize(normal(*shape, seed=seed), dim=-1)


def near(n, d, distance):
    """Pairs that a model has learned: every y close to its x."""
    x = unit(n, d, seed=3)
    return x, F.normalize(x + distance * unit(n, d, seed=5), dim=1)


CROWD = F.normalize(1 + 0.1 * normal(20, 6), dim=1)
ZEROS = unit(9, 6, seed=1) * (torch.arange(9) % 3 > 0)[:, None]
INPUTS = {
    "logits of 90,000": (30 * unit(40, 24), 30 * unit(40, 24, seed=1), 0.01),
    "temperature 0.001": (unit(40, 24), unit(40, 24, seed=1), 0.001),
    "temperature 1e-6": (unit(9, 6), unit(9, 6, seed=1), 1e-6),
    "learned": (*near(70, 24, 0.6), 0.03),
    "learned, beyond one shift": (*near(40, 24, 1.0), 0.006),
    "far below the shift": (CROWD, -CROWD.roll(1, 0), 0.01),
    "equal rows": (unit(1, 6).expand(12, 6), unit(1, 6).expand(12, 6), 0.001),
    "rows that occur twice": (unit(8, 6).repeat(2, 1), unit(8, 6, seed=1).repeat(2, 1), 0.004),
    "ones": (torch.ones(2, 1).double(), torch.ones(2, 1).double(), 0.001),
    "rows of zeros": (ZEROS, ZEROS.roll(1, 0), 0.01),
    "one row": (unit(1, 6), unit(1, 6, seed=1), 0.01),
    "one row, beyond one shift": (unit(1, 6), unit(1, 6, seed=1), 0.001),
    "one feature": (normal(17, 1), normal(17, 1, seed=1), 0.01),
}  # fmt: skip
# what float32 holds, so that truth and forms see the same numbers
INPUTS = {k: (x.float().double(), y.float().double(), float(torch.tensor(t))) for k, (x, y, t) in INPUTS.items()}


def softmax_truth(x, y, t, targets=None):
    """Value and gradients for x, y and t of the symmetric cross-entropy by SciPy in float64, and what a relative error
    of 1 in every score would do to them at most."""
    x, y = x.numpy(), y.numpy()
    logits = x @ y.T / t
    soft = targets is not None
    targets = (np.eye(len(x)),) * 2 if targets is None else targets
    value, slope, size = 0.0, np.zeros_like(logits), np.zeros_like(logits)
    for axis, target in zip((1, 0), targets, strict=True):
        value -= (target * special.log_softmax(logits, axis)).sum() / logits.shape[1 - axis] / 2
        part = (special.softmax(logits, axis) - target) / logits.shape[1 - axis] / 2
        slope, size = slope + part, size + abs(part)
        if soft:
            # targets carry the rounding of scores too
            size += target / logits.shape[1 - axis]
    return derivatives(value, slope, size, logits, x, y, t)


def sigmoid_truth(x, y, t, bias):
    x, y = x.numpy(), y.numpy()
    logits, sign = x @ y.T / t, 2 * np.eye(len(x)) - 1
    value = -special.log_expit(sign * (logits + bias)).sum() / len(x)
    slope = -sign * special.expit(-sign * (logits + bias)) / len(x)
    return derivatives(value, slope, abs(slope), logits, x, y, t)


def derivatives(value, slope, size, logits, x, y, t):
    exact = [value, slope @ y / t, slope.T @ x / t, -(slope * logits).sum() / t]
    sizes = [(size * abs(logits)).sum(), size @ abs(y) / t, size.T @ abs(x) / t, (size * abs(logits)).sum() / t]
    return exact, [np.linalg.norm(v) for v in sizes], abs(logits).max()


def differentiated(loss, x, y, t, dtype=torch.float32):
    x, y, t = (torch.as_tensor(v).to(DEVICE, dtype).clone().requires_grad_() for v in (x, y, t))
    value = loss(x, y, t)
    return [v.detach().cpu().double().numpy() for v in (value, *torch.autograd.grad(value, [x, y, t]))]


def assert_as_exact_as(simple, found, truth):
    """Errors of at most twice those of the one-matrix form, or what the rounding of the scores explains."""
    exact, sizes, largest = truth
    rounding = 6e-8
    for k, (ours, theirs, of, size) in enumerate(zip(found, simple, exact, sizes, strict=True)):
        assert np.isfinite(ours).all()
        # a score carries the rounding of its product, which the exponential makes a relative error of the gradient
        allowed = 4 * rounding * (size if k == 0 else (1 + largest) * size) + 4 * rounding * np.linalg.norm(of)
        assert np.linalg.norm(ours - of) <= 2 * np.linalg.norm(theirs - of) + allowed, ("value", "x", "y", "t")[k]


def one_matrix(x, y, t):
    logits, here = x @ y.T / t, torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, here) + F.cross_entropy(logits.T, here)) / 2


@pytest.mark.parametrize("form", [*FORMS, "blocks", None])
@pytest.mark.parametrize("name", INPUTS)
def test_info_nce(name, form):
    x, y, t = INPUTS[name]
    truth = softmax_truth(x, y, t)

    def loss(x, y, t):
        if form == "blocks":
            return contrast_blocks(lambda a, b: a["z"] @ b["z"].T, {"z": x}, {"z": y}, temperature=t, block=10)
        return info_nce(x, y, temperature=t, backend=form)

    found = differentiated(loss, x, y, t)
    assert_as_exact_as(differentiated(one_matrix, x, y, t), found, truth)
    if len(x) == 1:
        assert [not v.any() for v in found] == [True] * 4
    if form != "triton":
        exact, sizes, largest = truth
        for ours, of, size in zip(differentiated(loss, x, y, t, torch.float64), exact, sizes, strict=True):
            assert np.linalg.norm(ours - of) <= 5e-15 * (1 + largest) * (size + 1) + 1e-15 * np.linalg.norm(of)


def test_equal_rows_of_ones_are_at_rest():
    for form, rounding in (("reference", 1e-6), ("chunked", 0)):
        value, *gradients = differentiated(
            lambda x, y, t, form=form: info_nce(x, y, temperature=t, backend=form), *INPUTS["ones"]
        )
        assert value == pytest.approx(np.log(2), rel=1e-6)
        assert max(abs(g).max() for g in gradients) <= rounding


@pytest.mark.parametrize("form", [*FORMS, "blocks", None])
@pytest.mark.parametrize("bias", [0.0, -10.0])
@pytest.mark.parametrize("name", INPUTS)
def test_sigmoid_contrast(name, bias, form):
    x, y, t = INPUTS[name]
    truth = sigmoid_truth(x, y, t, bias)

    def loss(x, y, t):
        if form == "blocks":
            return contrast_blocks(
                lambda a, b: a["z"] @ b["z"].T, {"z": x}, {"z": y}, temperature=t, bias=bias, form="sigmoid", block=10
            )
        return sigmoid_contrast(x, y, temperature=t, bias=bias, backend=form)

    def simple(x, y, t):
        sign = 2 * torch.eye(len(x), device=x.device) - 1
        return -F.logsigmoid(sign * (x @ y.T / t + bias)).sum() / len(x)

    assert_as_exact_as(differentiated(simple, x, y, t), differentiated(loss, x, y, t), truth)


@pytest.mark.parametrize("form", [*FORMS, "blocks"])
def test_a_sigmoid_of_two_rows_by_hand(form):
    # logits (10, 0; 0, 0) x 10: the first row's negative is 0, the logit of a wrong pair of (10, 10) is 100
    x = torch.tensor([[10.0], [0.0]], device=DEVICE)
    apart = {"x_ids": torch.tensor([0, 1], device=DEVICE), "y_ids": torch.tensor([2, 3], device=DEVICE)}
    options = {"temperature": 1.0, "reduction": "sum"} | apart
    if form == "blocks":
        value = contrast_blocks(lambda a, b: a["z"] @ b["z"].T, {"z": x}, {"z": x}, form="sigmoid", **options)
    else:
        value = sigmoid_contrast(x, x, backend=form, **options)
    assert float(value) == pytest.approx(100 + 3 * np.log(2), rel=1e-6)


@pytest.mark.parametrize("name", INPUTS)
def test_the_losses_of_open_clip(name):
    losses = pytest.importorskip("open_clip.loss")
    x, y, t = INPUTS[name]
    for ours, theirs in (
        (lambda x, y, t: info_nce(x, y, temperature=t), lambda x, y, t: losses.ClipLoss()(x, y, 1 / t)),
        (
            lambda x, y, t: sigmoid_contrast(x, y, temperature=t, bias=-10.0),
            lambda x, y, t: losses.SigLipLoss()(x, y, 1 / t, torch.tensor(-10.0, dtype=x.dtype)),
        ),
    ):
        found, truth = (differentiated(loss, x.to("cpu"), y, t, torch.float64) for loss in (ours, theirs))
        for a, b in zip(found, truth, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13 * float(x.abs().max() ** 2) / t**2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", ["temperature 0.001", "equal rows", "rows of zeros", "one feature", "logits of 90,000"]
)
def test_sup_con(name, form):
    x, _, t = INPUTS[name]
    ids = torch.arange(len(x)) // 2
    logits = x.numpy() @ x.numpy().T / t
    np.fill_diagonal(logits, -np.inf)
    log_p = special.log_softmax(logits, 1)
    same = (ids[:, None] == ids).numpy() & ~np.eye(len(x), dtype=bool)
    kept = same.any(1)
    values = [log_p[i, same[i]].mean() for i in np.flatnonzero(kept)]
    found = sup_con(x.float().to(DEVICE), ids.to(DEVICE), temperature=t, backend=form)
    # a score carries the rounding of a product
    rounding = 3e-7 * float(x.norm(dim=1).max()) ** 2 / t
    assert float(found) == pytest.approx(-float(np.mean(values)), rel=1e-6, abs=rounding)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("teacher_temperature", [0.001, 0.05, 10.0])
@pytest.mark.parametrize("name", ["temperature 0.001", "equal rows", "rows of zeros", "one feature", "one row"])
def test_soft_contrast(name, teacher_temperature, form):
    x, y, t = INPUTS[name]
    a, b = y.roll(1, 0), x
    taught = a.numpy() @ b.numpy().T / teacher_temperature
    truth = softmax_truth(x, y, t, (special.softmax(taught, 1), special.softmax(taught, 0)))
    teachers = [v.float().to(DEVICE) for v in (a, b)]
    found = differentiated(
        lambda x, y, t: soft_contrast(
            x, y, *teachers, temperature=t, teacher_temperature=teacher_temperature, backend=form
        ),
        x, y, t,
    )  # fmt: skip
    exact, sizes, largest = truth
    # targets carry the rounding of the teacher's scores
    allowed = 3e-7 * (1 + largest + abs(taught).max())
    for ours, of, size in zip(found, exact, sizes, strict=True):
        assert np.linalg.norm(ours - of) <= allowed * (size + np.linalg.norm(of)) + 1e-6 * np.linalg.norm(of)


@pytest.mark.parametrize("form", FORMS)
def test_further_columns_at_a_tiny_temperature(form):
    shapes = ((9, 6), (9, 6), (5, 6), (9, 3, 6))
    x, y, queue, private = (unit(*shape, seed=k).float().double() for k, shape in enumerate(shapes))
    logits = torch.cat([x @ y.T, x @ queue.T, torch.einsum("nd,nkd->nk", x, private)], 1).numpy() / 0.001
    truth = -special.log_softmax(logits, 1)[np.arange(9), np.arange(9)].mean()
    tensors = [v.float().to(DEVICE) for v in (x, y, queue, private)]
    found = info_nce(
        *tensors[:2], temperature=0.001, negatives=tensors[2], private_negatives=tensors[3], directions="forward",
        backend=form,
    )  # fmt: skip
    assert float(found) == pytest.approx(truth, rel=1e-6)
    equal = torch.ones(2, 1, device=DEVICE)
    alone = info_nce(
        equal, equal, temperature=0.001, private_negatives=equal[:, :, None], in_batch=False, directions="forward",
        backend=form,
    )  # fmt: skip
    assert float(alone) == pytest.approx(np.log(2), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, -0.1])
def test_a_temperature_tensor_is_refused_like_a_number(value):
    x = torch.randn(4, 3)
    for given in (
        value,
        torch.tensor(value),
        torch.tensor([1.0, 1.0, value, 1.0]),
        torch.nn.Parameter(torch.tensor(value)),
    ):
        for loss in (
            lambda t: info_nce(x, x, temperature=t),
            lambda t: sigmoid_contrast(x, x, temperature=t),
            lambda t: soft_contrast(x, x, x, x, temperature=1.0, teacher_temperature=t),
            lambda t: contrast_blocks(lambda a, b: a["z"] @ b["z"].T, {"z": x}, {"z": x}, temperature=t),
        ):
            if isinstance(given, torch.Tensor) or value == 0:
                with pytest.raises(ValueError, match=r"temperature is (0.0|-0.1).*; it is > 0"):
                    loss(given)
