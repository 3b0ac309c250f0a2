"""Gram volume against determinants in float64, known volumes, and its contrastive loss."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow.kernels.gram import gram_contrast, gram_volume

FORMS = ["chunked"]
if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():
    FORMS.append("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def vectors(*shape, seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.nn.functional.normalize(torch.randn(*shape, generator=g, dtype=torch.float64), dim=-1)
        .to(dtype)
        .to(DEVICE)
    )


def relative(a, b):
    return float((a.detach().double() - b.detach().double()).norm() / b.detach().double().norm())


def run(function, leaves, dtype, backend, **options):
    leaves = {k: v.detach().to(dtype).requires_grad_() for k, v in leaves.items()}
    result = function(**leaves, backend=backend, **options)
    weight = torch.randn(result.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(DEVICE)
    (result.double() * weight).sum().backward()
    return result, {k: v.grad for k, v in leaves.items()}


def compare(function, leaves, backend, dtype=torch.float32, tolerance=1e-5, **options):
    leaves = {k: v.to(dtype).double() for k, v in leaves.items()}
    expected, expected_gradients = run(function, leaves, torch.float64, "reference", **options)
    found, gradients = run(function, leaves, dtype, backend, **options)
    assert relative(found, expected) < tolerance
    for name, e in expected_gradients.items():
        assert relative(gradients[name], e) < tolerance, name


@pytest.mark.parametrize("backend", FORMS)
@settings(max_examples=12, deadline=None)
@given(
    n=st.sampled_from([1, 3, 20]),
    m=st.sampled_from([1, 5, 33]),
    others=st.integers(1, 4),
    d=st.sampled_from([17, 40]),
    scale=st.sampled_from([0.5, 1.0]),
)
def test_volume_and_gradients_are_those_of_the_determinant(backend, n, m, others, d, scale):
    leaves = {"anchor": scale * vectors(n, d, seed=1), "others": vectors(m, others, d, seed=2)}
    compare(gram_volume, leaves, backend)


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("kept", [0, 1 << 30])
def test_contrast_is_that_of_the_definition(backend, kept, monkeypatch):
    import mmflow.kernels.gram.chunked as chunked
    import mmflow.kernels.tiles as tiles

    monkeypatch.setattr(tiles, "KEPT_BYTES", kept)
    monkeypatch.setattr(chunked, "TILE_BYTES", 3000)
    leaves = {"anchor": vectors(21, 24, seed=1), "others": vectors(21, 3, 24, seed=2), "temperature": torch.tensor(0.1)}
    compare(gram_contrast, leaves, backend, label_smoothing=0.1)
    compare(gram_contrast, leaves, backend, present=(torch.arange(21) % 4 > 0).to(DEVICE), tolerance=2e-5)


def test_gradcheck():
    anchor, others = vectors(4, 7, seed=1).requires_grad_(), vectors(3, 3, 7, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, o: gram_volume(a, o, backend="chunked"), (anchor, others))
    others = vectors(4, 3, 7, seed=2).requires_grad_()
    t = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, o, t: gram_contrast(a, o, temperature=t, label_smoothing=0.1, backend="chunked"), (anchor, others, t)
    )


@pytest.mark.parametrize("backend", ["reference", *FORMS])
def test_known_volumes(backend):
    e = torch.eye(3, device=DEVICE)
    assert gram_volume(e[:1], [e[1:2], e[2:3]], backend=backend).item() == pytest.approx(1)
    assert gram_volume(e[:1], [e[1:2], e[1:2]], backend=backend).item() == pytest.approx(1e-4)
    half = torch.linalg.cholesky(torch.full((3, 3), 0.5) + 0.5 * torch.eye(3)).to(DEVICE)
    assert gram_volume(half[:1], [half[1:2], half[2:3]], backend=backend).item() == pytest.approx(0.5**0.5, rel=1e-5)
    sixty = torch.tensor([[0.5, 3**0.5 / 2, 0]], device=DEVICE)
    assert gram_volume(e[:1], [sixty], backend=backend).item() == pytest.approx(0.866025, rel=1e-5)


@pytest.mark.parametrize("backend", ["reference", *FORMS])
def test_known_loss(backend):
    anchor = torch.eye(4, device=DEVICE)
    options = {"temperature": 0.07, "eps": 1e-12, "backend": backend}
    assert gram_contrast(anchor, [anchor], label_smoothing=0.1, **options).item() == pytest.approx(1.071430, rel=1e-5)
    assert gram_contrast(anchor, [anchor], **options).item() == pytest.approx(1.818e-6, rel=0.1)


@pytest.mark.parametrize("backend", FORMS)
def test_order_and_sign_of_modalities_change_nothing(backend):
    anchor, others = vectors(5, 9, seed=1), vectors(6, 3, 9, seed=2)
    anchor, others = anchor.float(), others.float()
    expected = gram_volume(anchor, others, backend=backend)
    torch.testing.assert_close(gram_volume(-anchor, others[:, [2, 0, 1]], backend=backend), expected)


@pytest.mark.parametrize("backend", FORMS)
def test_collapsed_tuples_give_the_floor_and_finite_gradients(backend):
    anchor = vectors(3, 9, seed=1, dtype=torch.float32).requires_grad_()
    others = vectors(3, 1, 9, seed=2, dtype=torch.float32).expand(3, 2, 9).clone().requires_grad_()
    volumes = gram_volume(anchor, others, backend=backend)
    assert volumes.detach().flatten().tolist() == pytest.approx([1e-4] * 9)
    gram_contrast(anchor, others, backend=backend).backward()
    assert torch.isfinite(anchor.grad).all()
    assert torch.isfinite(others.grad).all()


@pytest.mark.parametrize("backend", FORMS)
def test_bfloat16_vectors(backend):
    leaves = {"anchor": vectors(9, 40, seed=1), "others": vectors(9, 3, 40, seed=2)}
    compare(gram_volume, leaves, backend, dtype=torch.bfloat16, tolerance=2e-2)


@pytest.mark.parametrize("backend", FORMS)
def test_same_bits_twice(backend):
    leaves = {"anchor": vectors(9, 40, seed=1), "others": vectors(9, 3, 40, seed=2)}
    (a, ga), (b, gb) = (run(gram_volume, leaves, torch.float32, backend) for _ in range(2))
    assert torch.equal(a, b)
    assert all(torch.equal(ga[k], gb[k]) for k in ga)


def test_wrong_input_is_explained():
    x = torch.ones(3, 4)
    with pytest.raises(ValueError, match="2 to 5"):
        gram_volume(x, [x] * 5)
    with pytest.raises(ValueError, match="one shape"):
        gram_volume(x, [x, x[:2]])
    with pytest.raises(ValueError, match="empty"):
        gram_volume(x[:0], [x])
    with pytest.raises(ValueError, match="matches tuple"):
        gram_contrast(x, [x[:2]])
