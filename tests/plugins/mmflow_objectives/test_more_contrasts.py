"""Contrast of views, tokens, clusters and soft targets: values that the papers' formulas give, and brute force."""

from __future__ import annotations

import math

import pytest
import torch
from mmflow_objectives.contrastive.infonce import InfoNCE
from mmflow_objectives.contrastive.local_contrast import LocalContrast
from mmflow_objectives.contrastive.multi_view import MultiView
from mmflow_objectives.contrastive.soft_infonce import SoftInfoNCE
from mmflow_objectives.contrastive.swapped_codes import SwappedCodes
from mmflow_objectives.contrastive.volume import VolumeContrast
from mmflow_objectives.distance.cosine_distance import CosineDistance
from mmflow_objectives.distance.uniformity import Uniformity
from mmflow_objectives.prediction.binary_cross_entropy import BinaryCrossEntropy
from mmflow_objectives.prediction.nearest_class_mean import NearestClassMean
from mmflow_objectives.redundancy.cross_correlation import CrossCorrelation
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from mmflow.plugin import ComponentError, Encoding, Tokens
from mmflow.spec import SpecError
from mmflow.testing import Held, compute_on


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def views_of(z: Tensor) -> Encoding:
    return Encoding({"pooled": z}, axes=("sample", "view"))


def multi_view(form: str, z: Tensor, temperature: float) -> float:
    loss = MultiView.model_validate({"of": ["z"], "form": form, "temperature": temperature})
    return float(compute_on(loss, z=views_of(z)).value)


ORTHONORMAL = {"joint": {2: 0.594438, 3: 0.475618, 4: 0.432653, 5: 0.410457},
               "decoupled": {2: 0.197225, 3: 0.197225, 4: 0.602690, 5: 1.190476}}  # fmt: skip
COLLAPSED = {"joint": 1.704748, "decoupled": 6.197225}


@pytest.mark.parametrize("form", ORTHONORMAL)
def test_all_views_at_once_where_views_agree_and_rows_are_orthogonal(form: str) -> None:
    for count, value in ORTHONORMAL[form].items():
        z = torch.eye(4, dtype=torch.float64)[:, None].expand(4, count, 4).contiguous()
        assert multi_view(form, z, 0.5) == pytest.approx(value, abs=1e-6)
    same = torch.ones(4, 3, 5, dtype=torch.float64)
    assert multi_view(form, same, 0.5) == pytest.approx(COLLAPSED[form], abs=1e-6)


def test_poly_view_forms() -> None:
    """With two views all forms are the loss of SimCLR; equal vectors give log(B - M + 1)."""
    z = normal(5, 2, 7)
    two = {form: multi_view(form, z, 0.2) for form in ("geometric", "arithmetic", "pairwise", "rest")}
    flat = normalize(z.transpose(0, 1).reshape(10, 7), dim=-1)
    scores = (flat @ flat.T / 0.2).fill_diagonal_(-torch.inf)
    simclr = float(cross_entropy(scores, torch.arange(10).roll(5)))
    assert two == pytest.approx(dict.fromkeys(two, simclr))
    same = torch.ones(5, 4, 3, dtype=torch.float64)
    for form in ("geometric", "arithmetic"):
        assert multi_view(form, same, 0.2) == pytest.approx(math.log(17))
    many = normal(5, 4, 7)
    assert multi_view("arithmetic", many, 0.2) < multi_view("geometric", many, 0.2)
    for form in ("geometric", "arithmetic", "joint", "decoupled", "pairwise", "rest"):
        assert multi_view(form, many, 0.2) == pytest.approx(multi_view(form, many[:, [2, 0, 3, 1]], 0.2))


def test_a_product_of_sums_does_not_overflow() -> None:
    z = torch.ones(64, 6, 4) + 1e-3 * normal(64, 6, 4).float()
    loss = MultiView.model_validate({"of": ["z"], "form": "decoupled", "temperature": 0.1})
    assert math.isfinite(float(compute_on(loss, z=views_of(z)).value))


def test_one_view_is_refused() -> None:
    with pytest.raises(ComponentError, match="compares views of a row"):
        compute_on(MultiView.model_validate({"of": ["z"]}), z=normal(4, 3))


def linear(p: Tensor, q: Tensor, temperature: float) -> float:
    plain = {"form": "linear", "directions": ["forward"], "temperature": temperature}
    return float(compute_on(SoftInfoNCE.model_validate({"of": ["p", "q"], **plain}), p=p, q=q).value)


def test_targets_of_similarity() -> None:
    """Card values: orthonormal vectors, a constant side, two antipodal clusters."""
    eye = torch.eye(4, dtype=torch.float64)
    assert linear(eye, eye, 1.0) == pytest.approx(1.34367, abs=1e-5)
    assert linear(normal(6, 5), torch.ones(6, 5, dtype=torch.float64), 0.3) == pytest.approx(math.log(6))
    clusters = torch.tensor([[1.0, 0.0]] * 2 + [[-1.0, 0.0]] * 2, dtype=torch.float64)
    assert linear(clusters, clusters, 1.0) == pytest.approx(0.82008, abs=1e-5)


def test_soft_targets_by_their_definition() -> None:
    a, b, t, u = (normal(6, 5, seed=k) for k in range(4))
    loss = SoftInfoNCE.model_validate(
        {"of": ["a", "b"], "teacher": ["t", "u"], "temperature": 0.3, "teacher_temperature": 0.5, "hard": 0.25}
    )
    found = compute_on(loss, a=a, b=b, t=t, u=u)
    a, b, t, u = (normalize(v, dim=-1) for v in (a, b, t, u))
    s, eye = a @ b.T / 0.3, torch.eye(6, dtype=torch.float64)
    soft = (t @ u.T / 0.5, u @ t.T / 0.5)
    sides = [cross_entropy(x, 0.75 * y.softmax(1) + 0.25 * eye) for x, y in zip((s, s.T), soft, strict=True)]
    assert float(found.value) == pytest.approx(float(sum(sides) / 2))
    assert not found.gradients["t"].any()
    with pytest.raises(ValueError, match="top is of form: softmax"):
        SoftInfoNCE.model_validate({"of": ["a", "b"], "form": "linear", "top": 3})


def test_balanced_targets_give_every_column_its_share() -> None:
    a, b = normal(6, 5), normal(6, 5, seed=1)
    same = torch.ones(6, 5, dtype=torch.float64)
    loss = SoftInfoNCE.model_validate({"of": ["a", "b"], "teacher": ["t"], "form": "balanced", "temperature": 0.3})
    found = float(compute_on(loss, a=a, b=b, t=same).value)
    s = normalize(a, dim=-1) @ normalize(b, dim=-1).T / 0.3
    even = torch.full((6, 6), 1 / 6, dtype=torch.float64)
    assert found == pytest.approx(float((cross_entropy(s, even) + cross_entropy(s.T, even)) / 2))


def test_volumes_of_two_inputs_are_sines() -> None:
    a, b = normal(5, 4), normal(5, 4, seed=1)
    loss = VolumeContrast.model_validate({"of": ["a", "b"], "temperature": 0.3, "smoothing": 0.0})
    cosines = normalize(a, dim=-1) @ normalize(b, dim=-1).T
    s, own = -(1 - cosines**2).sqrt() / 0.3, torch.arange(5)
    value = (cross_entropy(s, own) + cross_entropy(s.T, own)) / 2
    assert float(compute_on(loss, a=a, b=b).value) == pytest.approx(float(value))


def test_negatives_of_a_row_alone() -> None:
    a, b, own = normal(4, 6), normal(4, 6, seed=1), normal(4, 3, 6, seed=2)
    forward = {"directions": ["forward"], "temperature": 0.2, "own_negatives": "own"}
    inputs = {"a": a, "b": b, "own": Encoding({"pooled": own}, axes=("sample", "negative"))}
    units = [normalize(v, dim=-1) for v in (a, b, own)]
    scores = torch.cat([units[0] @ units[1].T, torch.einsum("nd,nkd->nk", units[0], units[2])], dim=1) / 0.2
    found = compute_on(InfoNCE.model_validate({"of": ["a", "b"], **forward}), **inputs)
    assert float(found.value) == pytest.approx(float(cross_entropy(scores, torch.arange(4))))
    alone = InfoNCE.model_validate({"of": ["a", "b"], "in_batch": False, **forward})
    few = torch.cat([scores.diagonal()[:, None], scores[:, 4:]], dim=1)
    assert float(compute_on(alone, **inputs).value) == pytest.approx(float(cross_entropy(few, torch.zeros(4).long())))
    with pytest.raises(ComponentError, match="own_negatives need a score of vectors"):
        compute_on(InfoNCE.model_validate({"of": ["a", "b"], "score": "neg_sq_euclid", **forward}), **inputs)


def test_balance_and_weights_of_the_own_negative() -> None:
    a, b, c = normal(4, 6), normal(4, 6, seed=1), normal(4, 6, seed=2)
    s = normalize(a, dim=-1) @ normalize(b, dim=-1).T / 0.2
    rows = torch.stack([cross_entropy(x, torch.arange(4), reduction="none") for x in (s, s.T)])
    expected = float((rows / (1 - (-rows).exp())).mean())
    loss = InfoNCE.model_validate({"of": ["a", "b"], "temperature": 0.2, "balanced": True})
    assert float(compute_on(loss, a=a, b=b).value) == pytest.approx(expected)
    hard = InfoNCE.model_validate({"of": ["a", "b"], "temperature": 0.2, "negatives": "c", "own_weight": 1.5})
    more = normalize(a, dim=-1) @ normalize(c, dim=-1).T / 0.2 + 1.5 * torch.eye(4)
    forward = cross_entropy(torch.cat([s, more], dim=1), torch.arange(4))
    assert float(compute_on(hard, a=a, b=b, c=c).value) == pytest.approx(float(forward + rows[1].mean()) / 2)
    with pytest.raises(ComponentError, match="own_weight needs one negative a row"):
        compute_on(hard, a=a, b=b, c=Held({"value": normal(7, 6)}))


def test_labels_decoupling_and_their_faults() -> None:
    a, b = normal(5, 6), normal(5, 6, seed=1)
    labels = torch.tensor([0, 1, 0, 2, 1])
    s = normalize(a, dim=-1) @ normalize(b, dim=-1).T / 0.2
    same = (labels[:, None] == labels[None]).double()
    both = [cross_entropy(x, same / same.sum(1, keepdim=True)) for x in (s, s.T)]
    loss = InfoNCE.model_validate({"of": ["a", "b"], "temperature": 0.2, "labels": "labels"})
    assert float(compute_on(loss, a=a, b=b, labels=labels).value) == pytest.approx(float(sum(both) / 2))
    apart = InfoNCE.model_validate({"of": ["a", "b"], "temperature": 0.2, "positive_in_denominator": False})
    without = [x.masked_fill(torch.eye(5).bool(), -torch.inf).logsumexp(1) - x.diagonal() for x in (s, s.T)]
    assert float(compute_on(apart, a=a, b=b).value) == pytest.approx(float(sum(v.mean() for v in without) / 2))
    for wrong, said in (
        ({"in_batch": False, "directions": ["forward"], "labels": "labels"}, "labels name others"),
        ({"own_weight": 1.0}, "own_weight is for `negatives`"),
        ({"balanced": True, "smoothing": 0.1}, "leave out smoothing"),
        ({"own_negatives": "c", "directions": ["backward"]}, "own_negatives are candidates of the forward"),
    ):
        with pytest.raises(ValueError, match=said):
            InfoNCE.model_validate({"of": ["a", "b"], **wrong})


def test_own_tokens_among_those_of_other_rows() -> None:
    x, tokens = normal(4, 6), normal(4, 3, 6, seed=1)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]]).bool()
    loss = LocalContrast.model_validate({"of": ["x"], "parts": "t.tokens", "temperature": 0.4})
    found = float(compute_on(loss, x=x, t=Tokens(tokens, mask)).value)
    s = torch.einsum("nd,mld->nml", normalize(x, dim=-1), normalize(tokens, dim=-1)) / 0.4
    rows = []
    for i in range(4):
        others = [s[i, j, k].exp() for j in range(4) for k in range(3) if j != i and mask[j, k]]
        own = [float((s[i, i, k].exp() + sum(others)).log() - s[i, i, k]) for k in range(3) if mask[i, k]]
        rows.append(sum(own) / len(own) if own else 0.0)
    assert found == pytest.approx(sum(rows) / 4)


def codes_of(vectors: Tensor, **inputs: Tensor) -> float:
    made = {"use": "encoder/prototype_vectors", "count": len(vectors), "dim": vectors.shape[1]}
    loss = SwappedCodes.model_validate({"of": list(inputs), "prototypes": made})
    from mmflow.testing import compute_sum

    return float(compute_sum({"l": loss}, inputs, weights={"losses.l.prototypes.vectors": vectors}).total)


def test_codes_of_the_other_view() -> None:
    eye = torch.eye(2, dtype=torch.float64)
    assert codes_of(eye, a=eye, b=eye) == pytest.approx(math.log1p(math.exp(-10)), abs=1e-7)
    # Scores that say nothing have even codes.
    assert codes_of(torch.ones(3, 2, dtype=torch.float64), a=eye, b=eye) == pytest.approx(math.log(3))
    with pytest.raises(ComponentError, match="codes of other views"):
        codes_of(eye, a=eye)


def test_class_means_of_the_support() -> None:
    x = normal(9, 4)
    labels = torch.tensor([3, 3, 7, 7, 3, 7, 3, 7, 9])
    support = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 0])
    loss = NearestClassMean.model_validate({"of": ["x"], "labels": "y", "support": "s"})
    found = compute_on(loss, x=x, y=labels, s=support)
    means = torch.stack([x[:2].mean(0), x[2:4].mean(0)])
    logits = -torch.cdist(x[4:8], means).square()
    assert float(found.value) == pytest.approx(float(cross_entropy(logits, torch.tensor([0, 1, 0, 1]))))
    assert not found.gradients["x"][8].any()


def test_correlations_and_distances() -> None:
    a = normal(200, 3)
    whitened = (a - a.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(a.T, correction=0))).T
    loss = CrossCorrelation.model_validate({"of": ["a", "b"]})
    assert float(compute_on(loss, a=whitened, b=whitened).value) == pytest.approx(0.0, abs=1e-9)
    opposite = compute_on(loss, a=whitened, b=-whitened).value
    assert float(opposite) == pytest.approx(12.0, abs=1e-3)
    b = normal(6, 4)
    distance = compute_on(CosineDistance.model_validate({"of": ["a", "b"]}), a=2 * b, b=b)
    assert float(distance.value) == pytest.approx(0.0, abs=1e-12)
    assert not distance.gradients["b"].any()


def test_uniformity_between_two_inputs() -> None:
    x, y = (normalize(normal(6, 4, seed=k), dim=-1) for k in range(2))
    off = ~torch.eye(6, dtype=torch.bool)
    for scale in (1.0, 3.0):
        loss = Uniformity.model_validate({"of": ["x", "y"], "pairs": "between", "normalize": False})
        expected = float((-2 * torch.cdist(scale * x, y).square()).exp()[off].mean().log())
        assert float(compute_on(loss, x=scale * x, y=y).value) == pytest.approx(expected)
    with pytest.raises(ComponentError, match="compares two inputs"):
        compute_on(Uniformity.model_validate({"of": ["x"], "pairs": "between"}), x=x)


def test_several_labels_a_row() -> None:
    logits = normal(4, 3)
    hot = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]).double()
    expected = float(torch.nn.functional.binary_cross_entropy_with_logits(logits, hot, reduction="sum")) / 4
    loss = BinaryCrossEntropy.model_validate({"of": ["z"], "labels": "y"})
    assert float(compute_on(loss, z=logits, y=hot).value) == pytest.approx(expected)
    lists = Tokens(torch.tensor([[0, 2, 0], [0, 0, 0], [1, 0, 0], [2, 0, 1]]),
                   torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 1]]).bool())  # fmt: skip
    assert float(loss.compute(logits, lists).mean()) == pytest.approx(expected)
    assert float(loss.compute(logits, torch.tensor([0, 1, 2, 0])).mean()) == pytest.approx(
        float(loss.compute(logits, torch.eye(3)[[0, 1, 2, 0]].double()).mean())
    )
    with pytest.raises(ComponentError, match="no class of 3 logits"):
        loss.compute(logits, torch.tensor([0, 3, 2, 0]))


def test_a_width_that_is_no_number_of_labels_is_told_before_the_run() -> None:
    with pytest.raises(SpecError, match="a logit for each label"):
        compute_on(BinaryCrossEntropy.model_validate({"of": ["z"], "labels": "y"}), z=normal(4, 3), y=normal(4, 5))
