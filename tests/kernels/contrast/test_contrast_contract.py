"""What a caller may rely on beside the numbers: masks, messages, layouts, memory, the same bits twice."""

import subprocess
import sys
import textwrap

import pytest
import torch
from torch.nn import functional as F

from mmflow.kernels import contrast_blocks, info_nce, sigmoid_contrast, soft_contrast, sup_con

pytestmark = pytest.mark.slow


def rows(n, d, seed, dtype=torch.float32):
    return (
        F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1).to(dtype).requires_grad_()
    )


def test_a_batch_without_any_pair_costs_nothing_and_moves_nothing():
    x, y = rows(5, 3, 0), rows(5, 3, 1)
    for loss in (
        info_nce(x, y, temperature=0.1, x_ids=torch.arange(5), y_ids=torch.arange(5) + 9),
        info_nce(x, y, temperature=0.1, x_present=torch.zeros(5, dtype=torch.bool)),
        info_nce(x, y, temperature=0.1, row_weights=torch.zeros(5), column_weights=torch.zeros(5)),
        info_nce(x[:1], y[:1], temperature=0.1, positive_in_denominator=False),
        sup_con(x, torch.arange(5), temperature=0.1),
        sigmoid_contrast(x, y, temperature=0.1, x_present=torch.zeros(5, dtype=torch.bool)),
        contrast_blocks(
            lambda a, b: a["z"] @ b["z"].T, {"z": x}, {"z": y}, temperature=0.1, y_present=torch.zeros(5).bool()
        ),
    ):
        assert float(loss.detach()) == 0
        gradients = torch.autograd.grad(loss, [x, y], allow_unused=True)
        assert all(g is None or not bool(g.any()) for g in gradients)


def test_rows_without_a_positive_are_left_out_of_the_mean():
    x, y = rows(6, 4, 0), rows(6, 4, 1)
    ids = torch.arange(6)
    other = torch.tensor([0, 1, 2, 3, 90, 91])
    values = info_nce(x, y, temperature=0.1, x_ids=ids, y_ids=other, directions="forward", reduction="none")
    mean = info_nce(x, y, temperature=0.1, x_ids=ids, y_ids=other, directions="forward")
    assert not bool(values[4:].any())
    torch.testing.assert_close(mean, values[:4].mean())


def test_absent_rows_change_nothing_but_their_absence():
    x, y = rows(8, 4, 0), rows(8, 4, 1)
    present = torch.tensor([1, 1, 0, 1, 1, 0, 1, 1]).bool()
    for loss in (info_nce, sigmoid_contrast):
        masked = loss(x, y, temperature=0.1, x_present=present, y_present=present)
        torch.testing.assert_close(masked, loss(x[present], y[present], temperature=0.1))


@pytest.mark.parametrize("loss", [info_nce, sigmoid_contrast])
def test_layout_and_dtype_of_inputs_do_not_matter(loss):
    x, y = rows(40, 6, 0), rows(40, 6, 1)
    expected = loss(x, y, temperature=0.1)
    wide = torch.zeros(40, 12)
    wide[:, ::2] = y.detach()
    torch.testing.assert_close(loss(x.T.contiguous().T, wide[:, ::2], temperature=0.1), expected)
    mixed = loss(x.bfloat16(), y.double(), temperature=0.1)
    assert mixed.dtype == torch.float64
    exact = loss(x.bfloat16().double(), y.double(), temperature=0.1)
    torch.testing.assert_close(mixed, exact, rtol=1e-12, atol=0)


def test_autocast_does_not_round_the_scores():
    x, y = rows(200, 6, 0), rows(200, 6, 1)
    negatives = {"private_negatives": torch.stack([y.detach()] * 2, 1), "negatives": y}
    for loss, options in ((info_nce, negatives), (sigmoid_contrast, {})):
        expected = torch.autograd.grad(loss(x, y, temperature=0.02, **options), [x, y])
        with torch.autocast("cpu", torch.bfloat16):
            found = torch.autograd.grad(loss(x, y, temperature=0.02, **options), [x, y])
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_blocks_recompute_under_the_autocast_of_the_forward():
    x, y = rows(20, 6, 0), rows(20, 6, 1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrast_blocks(lambda a, b: a["z"] @ b["z"].T, {"z": x}, {"z": y}, temperature=0.02, block=7)
    truth = info_like(((x.bfloat16() @ y.bfloat16().T).float()) / 0.02)
    found, expected = (torch.autograd.grad(value, [x, y]) for value in (loss, truth))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=1e-2)


def test_losses_work_inside_a_compiled_function():
    x, y, t = rows(20, 6, 0), rows(20, 6, 1), torch.tensor(0.1, requires_grad=True)

    def loss(x, y, t):
        blocks = contrast_blocks(lambda a, b: a["z"] @ b["z"].T, {"z": 2 * x}, {"z": y}, temperature=t)
        return info_nce(2 * x, y, temperature=t) + sigmoid_contrast(x, 2 * y, temperature=t) + blocks

    expected = torch.autograd.grad(loss(x, y, t), [x, y, t])
    found = torch.autograd.grad(torch.compile(loss, backend="eager")(x, y, t), [x, y, t])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("loss", [info_nce, sigmoid_contrast])
def test_the_same_bits_twice(loss):
    x, y, t = rows(1100, 24, 0), rows(1100, 24, 1), torch.tensor(0.03, requires_grad=True)
    runs = []
    for _ in range(2):
        value = loss(x, y, temperature=t)
        runs.append([value, *torch.autograd.grad(value, [x, y, t])])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"x_ids": torch.tensor([0, 1, 0, 2, 1])},
        {"label_smoothing": 0.1, "directions": "forward"},
        {"reduction": "none"},
    ],
)
def test_gradcheck(options, small_tiles):
    x, y = rows(5, 3, 0, torch.float64), rows(5, 3, 1, torch.float64)
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: info_nce(a[0], a[1], temperature=a[2], **options), (x, y, t))
    if "label_smoothing" not in options:
        assert torch.autograd.gradcheck(lambda *a: sigmoid_contrast(a[0], a[1], temperature=a[2], **options), (x, y, t))


def test_gradcheck_of_a_score_with_parameters_and_two_directions():
    x, y = rows(5, 3, 0, torch.float64), rows(5, 3, 1, torch.float64)
    w = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    gain = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)

    def loss(x, y, w, gain):
        def score(a, b):
            forward = a["z"] @ w @ b["z"].T
            return forward * gain, -torch.cdist(a["z"], b["z"]).square() - gain * a["extra"][:, None]

        extra = torch.arange(5, dtype=torch.float64)
        return contrast_blocks(
            score, {"z": x, "extra": extra}, {"z": y, "extra": extra}, (w, gain), temperature=0.5, block=2
        )

    assert torch.autograd.gradcheck(loss, (x, y, w, gain))


def test_blocks_equal_the_same_loss_under_plain_autograd():
    x, y = rows(33, 5, 0, torch.float64), rows(33, 5, 1, torch.float64)
    mlp = torch.nn.Sequential(torch.nn.Linear(10, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1)).double()

    def score(a, b):
        n, m = len(a["z"]), len(b["z"])
        both = torch.cat([a["z"][:, None].expand(n, m, 5), b["z"][None].expand(n, m, 5)], -1)
        return mlp(both)[..., 0]

    truth = info_like(score({"z": x}, {"z": y}) / 0.2)
    inputs = [x, y, *mlp.parameters()]
    expected = torch.autograd.grad(truth, inputs)
    ours = contrast_blocks(score, {"z": x}, {"z": y}, mlp.parameters(), temperature=0.2, block=8)
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=0)
    found = torch.autograd.grad(ours, inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def info_like(logits):
    here = torch.arange(len(logits))
    return (F.cross_entropy(logits, here) + F.cross_entropy(logits.T, here)) / 2


def test_no_gradient_is_computed_for_what_needs_none():
    x, y = rows(6, 4, 0), rows(6, 4, 1).detach()
    (g,) = torch.autograd.grad(info_nce(x, y, temperature=0.1), [x])
    full = rows(6, 4, 1)
    expected, _ = torch.autograd.grad(info_nce(x, full, temperature=0.1), [x, full])
    assert torch.equal(g, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: info_nce(x[:0], x[:0], temperature=1.0), "the first matrix is empty"),
        (lambda x: info_nce(x, x[:, :2], temperature=1.0), "rows have 3 and 2 features"),
        (lambda x: info_nce(x[0], x, temperature=1.0), r"has shape \(3,\); it is \[rows, features\]"),
        (lambda x: info_nce(x.long(), x, temperature=1.0), "is torch.int64; it is floating point"),
        (lambda x: info_nce(x, x[:3], temperature=1.0), r"4 rows and 3 columns have no pairs \(i, i\)"),
        (lambda x: info_nce(x, x, temperature=torch.ones(3)), r"temperature has shape \(3,\)"),
        (lambda x: info_nce(x, x, temperature=0.0), "temperature is 0.0; it is > 0"),
        (lambda x: info_nce(x, x, temperature=1.0, directions="up"), "directions is 'up'"),
        (lambda x: info_nce(x, x, temperature=1.0, reduction="avg"), "reduction is 'avg'"),
        (lambda x: info_nce(x, x, temperature=1.0, exclude="twins"), "exclude has 'twins'"),
        (lambda x: info_nce(x, x, temperature=1.0, exclude="same_id"), "needs x_ids"),
        (lambda x: info_nce(x, x, temperature=1.0, row_weights=torch.ones(2)), r"row_weights has shape \(2,\)"),
        (lambda x: info_nce(x, x, temperature=1.0, in_batch=False), "in_batch=False"),
        (lambda x: info_nce(x, x, temperature=1.0, negatives=x[:, :2]), "3 and 2 features"),
        (lambda x: info_nce(x, x, temperature=1.0, label_smoothing=1.0), "label_smoothing is 1.0"),
        (lambda x: info_nce(x, x, temperature=1.0, positives="both"), "positives is 'both'"),
        (lambda x: sigmoid_contrast(x, x, temperature=1.0, bias=torch.ones(2)), "bias has shape"),
        (lambda x: info_nce(x, x, temperature=1.0, exchange="tree"), "exchange is 'tree'; known are ring, gather"),
        (lambda x: info_nce(x, x, temperature=1.0, pair_weights=x), r"pair_weights has shape \(4, 3\); it is \[4, 4\]"),
        (lambda x: soft_contrast(x, x, x[:2], x, temperature=1.0, teacher_temperature=1.0), "teachers have 2 and 4"),
        (lambda x: soft_contrast(x, x, x, x, temperature=1.0, teacher_temperature=1.0, top_k=0), "top_k is 0"),
        (lambda x: contrast_blocks(lambda a, b: a["z"], {"z": x}, {"z": x}, temperature=1.0), "the score gave"),
        (lambda x: contrast_blocks(lambda a, b: a["z"], {"z": x}, {}, temperature=1.0), "b holds tensors"),
    ],
)
def test_bad_input_is_refused_with_the_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(4, 3))


def test_kernels_need_neither_triton_nor_the_rest_of_mmflow():
    program = textwrap.dedent("""
        import sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("triton", "pydantic", "prefect", "yaml", "pluggy", "sklearn"):
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, Absent())
        import torch
        from mmflow.kernels import info_nce
        x = torch.randn(4, 3, requires_grad=True)
        info_nce(x, x, temperature=1.0).backward()
        assert "torch._dynamo" not in sys.modules
    """)
    subprocess.run([sys.executable, "-c", program], check=True)


def test_memory_grows_with_the_batch_and_not_with_its_square():
    program = textwrap.dedent("""
        import resource, sys, torch
        from mmflow.kernels import info_nce, sigmoid_contrast
        torch.set_num_threads(1)
        loss = {"info_nce": info_nce, "sigmoid_contrast": sigmoid_contrast}[sys.argv[1]]
        x, y = torch.randn(64, 32, requires_grad=True), torch.randn(64, 32, requires_grad=True)
        loss(x, y, temperature=1.0).backward()
        x = torch.nn.functional.normalize(torch.randn(8192, 32), dim=1).requires_grad_()
        y = torch.nn.functional.normalize(torch.randn(8192, 32), dim=1).requires_grad_()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        loss(x, y, temperature=0.05).backward()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """)
    for name in ("info_nce", "sigmoid_contrast"):
        done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=True)
        # one 8192 x 8192 float32 matrix is 262144 KiB
        assert int(done.stdout) < 70_000
