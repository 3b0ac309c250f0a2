from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mmflow_evaluators import geometry
from mmflow_evaluators.geometry import Geometry, cross_uniformity, effective_rank, modality_gap, uniformity

from mmflow.plugin import ComponentError, Encoding


def measure(
    *vectors: Any, of: tuple[str, ...] = ("image", "text"), present: Any = None, **fields: Any
) -> dict[str, float]:
    encodings = [Encoding({"pooled": torch.as_tensor(v)}, ("sample",), present) for v in vectors]
    ids = [f"row-{i}" for i in range(len(encodings[0]))]
    measured = Geometry(data="test", of=of[: len(vectors)], **fields).evaluate(*encodings, ids=ids)
    return {m.name: m.value for m in measured.metrics}


def unit(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, dim, dtype=torch.float64, generator=generator), dim=-1)


def simplex(count: int) -> torch.Tensor:
    """`count` unit vectors with equal angles."""
    centered = torch.eye(count, dtype=torch.float64) - 1 / count
    return torch.nn.functional.normalize(centered, dim=-1)


def test_uniformity_of_known_clouds():
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64), 2.0) == pytest.approx(-8.0)
    # A regular simplex of n points: -2 t n / (n - 1).
    for n, t in ((3, 2.0), (4, 2.0), (7, 3.0)):
        assert uniformity(simplex(n), t) == pytest.approx(-2 * t * n / (n - 1))
    assert uniformity(torch.ones(5, 1, dtype=torch.float64), 2.0) == pytest.approx(0.0, abs=1e-12)


def test_uniformity_of_a_random_cloud_is_that_of_the_sphere():
    # log E exp(-t |x - y|^2) on the sphere of 16 dimensions with t = 2 is -3.5130.
    assert uniformity(unit(3000, 16), 2.0) == pytest.approx(-3.5130, abs=0.01)


def test_uniformity_is_the_log_of_the_mean_over_pairs():
    x, y = unit(37, 6), unit(37, 6, 1)
    assert uniformity(x, 2.0) == pytest.approx(float(torch.pdist(x).pow(2).mul(-2).exp().mean().log()))
    distances = torch.cdist(x, y).pow(2)
    others = distances[~torch.eye(37, dtype=torch.bool)]
    assert cross_uniformity(x, y, 2.0) == pytest.approx(float(others.mul(-2).exp().mean().log()))


def test_blocks_do_not_change_it(monkeypatch):
    x, y = unit(50, 6), unit(50, 6, 1)
    whole = uniformity(x, 2.0), cross_uniformity(x, y, 2.0)
    monkeypatch.setattr(geometry, "BLOCK", 7)
    assert (uniformity(x, 2.0), cross_uniformity(x, y, 2.0)) == pytest.approx(whole)


def test_alignment_of_equal_and_of_orthogonal_pairs():
    x = unit(20, 5)
    got = measure(x, x)
    assert got["alignment"] == pytest.approx(0.0, abs=1e-14)
    assert got["pair_cosine"] == pytest.approx(1.0)
    assert got["modality_gap"] == pytest.approx(0.0, abs=1e-14)
    one, other = torch.eye(4)[:2].repeat(5, 1), torch.eye(4)[2:].repeat(5, 1)
    got = measure(one, other)
    assert got["alignment"] == pytest.approx(2.0)
    assert measure(one, other, power=1.0)["alignment"] == pytest.approx(math.sqrt(2))
    assert got["pair_cosine"] == got["other_cosine"] == pytest.approx(0.0)


def test_alignment_is_two_minus_two_cosines_and_does_not_see_lengths():
    x, y = unit(30, 5), unit(30, 5, 1)
    got = measure(x * 7, y * torch.linspace(0.1, 9, 30)[:, None])
    assert got["alignment"] == pytest.approx(float((2 - 2 * (x * y).sum(1)).mean()))
    products = x @ y.T
    assert got["other_cosine"] == pytest.approx(float(products[~torch.eye(30, dtype=torch.bool)].mean()))
    assert got["uniformity"] == pytest.approx((got["image_uniformity"] + got["text_uniformity"]) / 2)


def test_two_points_have_all_of_their_variance_between_them():
    one, other = torch.tensor([[1.0, 0.0]]).repeat(6, 1).double(), torch.tensor([[0.0, 1.0]]).repeat(6, 1).double()
    assert modality_gap(one, other) == (pytest.approx(math.sqrt(2)), pytest.approx(1.0))
    # Orthogonal offsets of length L on two centered clouds: a distance of L sqrt(2).
    cloud = torch.cat([simplex(4), torch.zeros(4, 2, dtype=torch.float64)], dim=1)
    a, b = cloud.clone(), cloud.clone()
    a[:, 4], b[:, 5] = 3.0, 3.0
    gap, share = modality_gap(a, b)
    assert gap == pytest.approx(3 * math.sqrt(2))
    assert share == pytest.approx(4.5 / (4.5 + 1.0))
    assert modality_gap(cloud, cloud)[1] == 0.0


def test_separability_sees_a_gap_and_none_in_equal_clouds():
    x = unit(300, 8)
    shift = torch.zeros(8, dtype=torch.float64)
    shift[0] = 3.0
    assert measure(x + shift, x - shift)["gap_separability"] == 1.0
    assert measure(x, unit(300, 8, 1))["gap_separability"] == pytest.approx(0.5, abs=0.15)


def test_effective_rank_counts_equal_directions():
    assert effective_rank(torch.eye(6, dtype=torch.float64)) == pytest.approx(6.0)
    assert effective_rank(torch.eye(9, 4, dtype=torch.float64)) == pytest.approx(4.0)
    assert effective_rank(torch.ones(9, 4, dtype=torch.float64)) == pytest.approx(1.0)
    values = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    assert effective_rank(torch.diag(values)) == pytest.approx(math.exp(-sum(v * math.log(v) for v in values.tolist())))


def test_collapse_is_told_by_uniformity_and_rank():
    got = measure(torch.ones(12, 5))
    assert got == {"image_uniformity": pytest.approx(0.0, abs=1e-9), "image_effective_rank": pytest.approx(1.0)}


def test_three_encoders_are_compared_in_pairs():
    x = unit(12, 5)
    got = measure(x, x, -x, of=("a", "b", "c"))
    assert got["a_b_alignment"] == pytest.approx(0.0, abs=1e-14)
    assert got["a_c_alignment"] == pytest.approx(4.0)
    assert "b_c_modality_gap" in got


def test_absent_rows_are_left_out():
    x = unit(10, 4)
    broken = x.clone()
    broken[3] = 1e3
    present = torch.ones(10, dtype=torch.bool)
    present[3] = False
    assert measure(broken, x, present=present)["alignment"] == pytest.approx(0.0, abs=1e-14)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ComponentError, match="4 dimensions and text has 5"):
        measure(unit(8, 4), unit(8, 5))
    with pytest.raises(ComponentError, match="fewer than two rows"):
        measure(unit(1, 4))
