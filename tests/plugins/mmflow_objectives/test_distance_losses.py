"""Alignment, uniformity and triplets against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from mmflow_objectives.distance.alignment import Alignment
from mmflow_objectives.distance.triplet import Triplet
from mmflow_objectives.distance.uniformity import Uniformity
from torch import Tensor
from torch.nn.functional import normalize

from mmflow.plugin import Encoding, Tokens


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_alignment_is_the_distance_of_unit_vectors_to_a_power(power: float) -> None:
    a, b = drawn(5, 3, seed=0), drawn(5, 3, seed=1)
    found = Alignment(of=("a", "b"), power=power).compute(a, b)  # type: ignore[arg-type]
    expected = (normalize(a, dim=1) - normalize(b, dim=1)).norm(dim=1) ** power
    torch.testing.assert_close(found, expected)


def test_alignment_of_equal_vectors_is_zero_with_a_finite_gradient() -> None:
    a = drawn(3, 4, seed=2).requires_grad_()
    found = Alignment(of=("a", "b"), power=1.0).compute(a, a.detach().clone())  # type: ignore[arg-type]
    found.sum().backward()
    assert found.max().item() < 1e-100
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_uniformity_is_the_log_of_the_mean_kernel_over_pairs() -> None:
    x = drawn(6, 3, seed=3).requires_grad_()
    found = Uniformity(of="z", t=2.0).compute(x)  # type: ignore[arg-type]
    unit = normalize(x, dim=1)
    kernel = [(-2.0 * (unit[i] - unit[j]).square().sum()).exp() for i in range(6) for j in range(i)]
    expected = (sum(kernel) / len(kernel)).log()  # type: ignore[union-attr]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x)[0], torch.autograd.grad(expected, x)[0])


def test_uniformity_of_equal_points_and_of_one_row_is_zero() -> None:
    loss = Uniformity(of="z")  # type: ignore[arg-type]
    assert loss.compute(torch.ones(4, 3)).item() == pytest.approx(0, abs=1e-6)
    assert loss.compute(torch.ones(1, 3)).item() == 0


def test_uniformity_of_opposite_points() -> None:
    """Two points at distance two: log exp(-t 4)."""
    loss = Uniformity(of="z", t=1.5)  # type: ignore[arg-type]
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert loss.compute(x).item() == pytest.approx(-6.0)


def test_triplet_of_three_is_a_row_loss_with_a_hinge() -> None:
    loss = Triplet(of=("a", "p", "n"), margin=0.3)  # type: ignore[arg-type]
    assert loss.scope() == "row"
    a, p, n = (drawn(5, 3, seed=s) for s in (4, 5, 6))
    found = loss.compute(*(Encoding({"pooled": x}) for x in (a, p, n)), score=loss.score, margin=0.3)  # type: ignore[arg-type]
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(found, (0.3 - cosine(a, p) + cosine(a, n)).clamp_min(0))


@pytest.mark.parametrize("margin", [0.2, torch.tensor([0.1, 0.5, 0.0, 0.9], dtype=torch.float64)])
@pytest.mark.parametrize("negatives", ["hardest", "all"])
def test_triplet_of_two_meets_the_rest_of_the_batch_in_both_directions(negatives: str, margin: float | Tensor) -> None:
    loss = Triplet(of=("a", "b"), negatives=negatives)  # type: ignore[arg-type]
    assert loss.scope() == "batch"
    a, b = drawn(4, 3, seed=7), drawn(4, 3, seed=8)
    found = loss.compute(Encoding({"pooled": a}), Encoding({"pooled": b}), score=loss.score, margin=margin)  # type: ignore[arg-type]
    own = torch.as_tensor(margin).expand(4)
    s = normalize(a, dim=1) @ normalize(b, dim=1).T
    for i in range(4):
        sides = [
            [max(0.0, float(own[i] - s[i, i] + s[i, j])) for j in range(4) if j != i],
            [max(0.0, float(own[i] - s[i, i] + s[j, i])) for j in range(4) if j != i],
        ]
        expected = sum(max(side) if negatives == "hardest" else sum(side) / 3 for side in sides)
        assert found[i].item() == pytest.approx(expected)


def test_triplet_takes_late_interaction() -> None:
    loss = Triplet(of=("a", "b"), score="maxsim")  # type: ignore[arg-type]
    sides = [Encoding({"tokens": Tokens(drawn(3, 2, 4, seed=s), torch.ones(3, 2, dtype=torch.bool))}) for s in (9, 10)]
    found = loss.compute(*sides, score=loss.score, margin=0.2)  # type: ignore[arg-type]
    assert found.shape == (3,)
    assert math.isfinite(found.sum().item())
