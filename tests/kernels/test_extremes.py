"""The operations beside the contrastive core at extreme values, equal rows, rows of zeros, one row and one feature.

The truth is NumPy and SciPy in float64, POT, or known by hand; no form of our own.
"""

import importlib.util
import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from mmflow.kernels import (
    alignment,
    assignment,
    gram_contrast,
    gram_volume,
    kmeans,
    knn_vote,
    match_log_probability,
    max_sim,
    max_sim_contrast,
    nearest_center,
    pair_soft_dtw,
    sample_contrast,
    sinkhorn,
    soft_dtw,
    top_k,
    uniformity,
)

np = pytest.importorskip("numpy")
special = pytest.importorskip("scipy.special")
# the interpreter warns where a branch that is not taken overflows
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ABSENT = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
FORMS = ["reference", "chunked", pytest.param("triton", marks=ABSENT)]
forms = pytest.mark.parametrize("form", FORMS)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def unit(*shape, seed=0):
    return F.normalize(normal(*shape, seed=seed), dim=-1)


def numpy(*tensors):
    arrays = [t.detach().cpu().double().numpy() for t in tensors]
    return arrays[0] if len(arrays) == 1 else arrays


def with_zeros(rows):
    return rows * (torch.arange(len(rows), device=DEVICE) % 3 > 0).view(-1, *[1] * (rows.dim() - 1))


def cross_entropies(by_row, by_column):
    n = np.arange(len(by_row))
    return -special.log_softmax(by_row, 1)[n, n], -special.log_softmax(by_column, 0)[n, n]


TOKENS = {
    "large": (100 * normal(5, 4, 6), 100 * normal(5, 3, 6, seed=1)),
    "equal": (unit(1, 1, 6).expand(5, 4, 6), unit(1, 1, 6).expand(5, 3, 6)),
    "zeros": (with_zeros(unit(5, 4, 6)), with_zeros(unit(5, 3, 6, seed=1)).flip(0)),
    "one item": (unit(1, 4, 6), unit(1, 3, 6, seed=1)),
    "one token of one feature": (normal(5, 1, 1), normal(5, 1, 1, seed=1)),
}


@forms
@pytest.mark.parametrize("name", TOKENS)
def test_late_interaction(name, form):
    x, y = TOKENS[name]
    similarity = np.einsum("ipd,jtd->ijpt", *numpy(x, y))
    over_y, over_x = similarity.max(3).mean(2), similarity.max(2).mean(2)
    found = max_sim(x, y, backend=form)
    for ours, truth in zip(found, (over_y, over_x), strict=True):
        np.testing.assert_allclose(numpy(ours), truth, rtol=1e-5, atol=1e-6 * abs(similarity).max())
    for inner in (1e-4, 0.1):
        share = special.softmax(similarity / inner, 3)
        soft = max_sim(x, y, inner_temperature=inner, backend=form)[0]
        rounding = 3e-7 * abs(similarity).max() * (1 + abs(similarity).max() / inner)
        np.testing.assert_allclose(numpy(soft), (share * similarity).sum(3).mean(2), rtol=1e-5, atol=rounding)
    for t in (0.001, 1.0):
        rows, columns = max_sim_contrast(x, y, temperature=t, reduction="none", backend=form)
        for ours, truth in zip((rows, columns), cross_entropies(over_y / t, over_x / t), strict=True):
            np.testing.assert_allclose(numpy(ours), truth, rtol=1e-5, atol=1e-6 * abs(similarity).max() / t)
    if len(x) == 1:
        assert float(max_sim_contrast(x, y, temperature=0.001, backend=form)) == 0


@forms
def test_equal_items_share_their_gradient_evenly(form):
    x, y = (torch.ones(2, 1, 1, device=DEVICE, requires_grad=True) for _ in range(2))
    t = torch.tensor(0.001, device=DEVICE, requires_grad=True)
    loss = max_sim_contrast(x, y, temperature=t, backend=form)
    assert float(loss.detach()) == pytest.approx(math.log(2), rel=1e-6)
    for gradient in torch.autograd.grad(loss, [x, y, t]):
        assert not bool(gradient.any())


def volumes(anchor, others):
    """Products of singular values of the stacked vectors."""
    return np.array(
        [
            [np.linalg.svd(np.concatenate([a[None], o]), compute_uv=False)[: len(o) + 1].prod() for o in others]
            for a in anchor
        ]
    )


NEAR = {k: F.normalize(unit(4, 8) + k * unit(4, 8, seed=5), dim=1) for k in (0.1, 1e-2, 1e-3, 3e-4)}


@forms
@pytest.mark.parametrize("distance", NEAR)
def test_volume_of_vectors_that_nearly_agree(distance, form):
    # one modality beside the anchor: the sine of their angle; then two of which one is far
    anchor = unit(4, 8).requires_grad_()
    second, third = NEAR[distance].requires_grad_(), unit(4, 8, seed=2)
    # at the floor of 1e-4 the vectors' own rounding, 6e-8, is a thousandth
    tolerance = 1e-5 + 1e-7 / distance
    for others in ((second,), (third, second)):
        found = gram_volume(anchor, others, backend=form)
        np.testing.assert_allclose(
            numpy(found), volumes(numpy(anchor), numpy(torch.stack(others, 1))), rtol=tolerance, atol=1e-6
        )
        np.testing.assert_allclose(
            numpy(found.diagonal()), volumes(numpy(anchor), numpy(torch.stack(others, 1))).diagonal(), rtol=tolerance
        )
    a, b = numpy(anchor, second)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    sine = volumes(a, b[:, None]).diagonal()
    (gradient,) = torch.autograd.grad(gram_volume(anchor, (second,), backend=form).diagonal().sum(), [anchor])
    # the volume grows along what the anchor has beside the other vector
    beside = a - cosine[:, None] * b
    np.testing.assert_allclose(numpy(gradient), beside / sine[:, None], atol=3 * tolerance)


@forms
@pytest.mark.parametrize("d", [1, 6])
def test_volume_at_its_floor(d, form):
    anchor = with_zeros(normal(6, d)).requires_grad_()
    second = (2 * anchor.detach()).requires_grad_()
    found = gram_volume(anchor, (second,), backend=form).diagonal()
    np.testing.assert_allclose(numpy(found), 1e-4, rtol=1e-6)
    for gradient in torch.autograd.grad(found.sum(), [anchor, second]):
        assert not bool(gradient.any())
    if d == 1:
        np.testing.assert_allclose(numpy(gram_volume(anchor, (second,), backend=form)), 1e-4, rtol=1e-6)


@forms
@pytest.mark.parametrize("t", [0.001, 0.07])
def test_gram_contrast(t, form):
    for anchor, second in ((unit(7, 5), unit(7, 5, seed=1)), (unit(1, 5).expand(7, 5), unit(1, 5).expand(7, 5))):
        truth = -np.maximum(volumes(numpy(anchor), numpy(second)[:, None]), 1e-4) / t
        losses = gram_contrast(anchor, (second,), temperature=t, reduction="none", backend=form)
        for ours, exact in zip(losses, cross_entropies(truth, truth), strict=True):
            np.testing.assert_allclose(numpy(ours), exact, rtol=1e-5, atol=1e-6 / t)
    assert float(gram_contrast(unit(1, 5), (unit(1, 5, seed=1),), temperature=t, backend=form)) == 0


SCORES = {
    "wide": (10 * normal(7, 5), 0.05),
    "small epsilon": (normal(7, 5), 0.003),
    "equal": (torch.full((7, 5), 3.0, device=DEVICE), 0.05),
    "zeros": (torch.zeros(7, 5, device=DEVICE), 0.001),
    "equal rows": (normal(1, 5).expand(7, 5), 0.05),
    "one row": (normal(1, 5), 0.05),
    "one column": (normal(7, 1), 0.05),
    "one pair": (normal(1, 1), 0.001),
}


@forms
@pytest.mark.parametrize("name", SCORES)
def test_sinkhorn(name, form):
    ot = pytest.importorskip("ot")
    scores, epsilon = SCORES[name]
    n, m = scores.shape
    # the interpreter is slow
    potentials = sinkhorn(scores, epsilon=epsilon, iterations=10 if form == "triton" else 200, backend=form)
    # POT balances in the other order: the two agree where both have converged
    uniform = np.full(n, 1 / n), np.full(m, 1 / m)
    truth = ot.sinkhorn(*uniform, -numpy(scores), epsilon, method="sinkhorn_log", numItermax=200, warn=False)
    plan = numpy(assignment(scores, None, potentials)) / n
    np.testing.assert_allclose(plan.sum(1), 1 / n, rtol=1e-5)
    converged = max(abs(truth.sum(1) - 1 / n).max(), abs(plan.sum(0) - 1 / m).max()) < 1e-5 / n
    assert converged or form == "triton" or name in ("wide", "small epsilon")
    if converged:
        np.testing.assert_allclose(plan, truth, atol=3e-6 / n + 1e-6 * abs(numpy(scores)).max() / epsilon / n)
    if name in ("equal", "zeros", "equal rows"):
        np.testing.assert_allclose(plan, 1 / n / m, rtol=1e-4)


@forms
def test_sinkhorn_of_a_tiny_epsilon_is_the_best_matching(form):
    optimize = pytest.importorskip("scipy.optimize")
    scores = normal(6, 6) + 4 * torch.eye(6, device=DEVICE).roll(2, 1)
    _, best = optimize.linear_sum_assignment(-numpy(scores))
    potentials = sinkhorn(scores, epsilon=0.05, iterations=20, backend=form)
    assert numpy(assignment(scores, None, potentials)).argmax(1).tolist() == best.tolist()


@forms
def test_search_among_equal_and_extreme_scores(form):
    for queries, gallery in (
        (with_zeros(normal(5, 3)), with_zeros(normal(40, 3, seed=1))),
        (unit(1, 6).expand(3, 6), unit(1, 6).expand(40, 6)),
        (1e15 * normal(3, 6), 1e15 * normal(40, 6, seed=1)),
        (normal(1, 1), normal(40, 1, seed=1)),
        (normal(3, 2), normal(1, 2)),
    ):
        k = min(4, len(gallery))
        # products of a tile and of one vector may round differently: NumPy ranks whole numbers
        queries, gallery = (torch.round(t / t.abs().max().clamp_min(1e-9) * 8) for t in (queries, gallery))
        truth = numpy(queries) @ numpy(gallery).T
        order = np.argsort(-truth, axis=1, kind="stable")[:, :k]
        hits = top_k(queries, gallery, k, backend=form)
        assert hits.indices.tolist() == order.tolist()
        np.testing.assert_allclose(numpy(hits.values), np.take_along_axis(truth, order, 1))
    large = 1e18 * unit(3, 6)
    assert top_k(large, large, 1, backend=form).indices.flatten().tolist() == [0, 1, 2]


@forms
@pytest.mark.parametrize("t", [1e-4, 0.07])
def test_votes(t, form):
    queries, gallery, labels = unit(5, 6), unit(30, 6, seed=1), torch.arange(30, device=DEVICE) % 3
    scores = numpy(queries) @ numpy(gallery).T
    order = np.argsort(-scores, axis=1)[:, :7]
    shares = special.softmax(np.take_along_axis(scores, order, 1) / t, 1)
    truth = np.stack([(shares * (order % 3 == c)).sum(1) for c in range(3)], 1)
    found = knn_vote(queries, gallery, labels, 7, temperature=t, backend=form)
    np.testing.assert_allclose(numpy(found), truth, atol=1e-6 + 3e-7 / t)


@forms
def test_clusters(form):
    vq = pytest.importorskip("scipy.cluster.vq")
    for x, centers in (
        (1e6 * normal(50, 4), 1e6 * normal(5, 4, seed=1)),
        (1e-6 * normal(50, 4), 1e-6 * normal(5, 4, seed=1)),
        (with_zeros(normal(50, 1)), normal(5, 1, seed=1)),
        (normal(1, 4), normal(1, 4, seed=1)),
    ):
        labels, distance = vq.vq(*numpy(x, centers))
        found = nearest_center(x, centers, backend=form)
        assert found[0].tolist() == labels.tolist()
        np.testing.assert_allclose(numpy(found[1]), distance**2, rtol=1e-5)
    same = normal(1, 4).expand(6, 4)
    assert nearest_center(same, same[:2], backend=form)[0].tolist() == [0] * 6
    clusters = kmeans(same, 3, backend=form)
    np.testing.assert_allclose(numpy(clusters.centers), numpy(same[:3]), rtol=1e-6)
    assert float(clusters.inertia) < 1e-9
    alone = kmeans(normal(1, 3), 1, backend=form)
    np.testing.assert_allclose(numpy(alone.centers), numpy(normal(1, 3)), rtol=1e-6)
    rows = normal(5, 2)
    each = kmeans(rows, 5, backend=form)
    assert sorted(each.labels.tolist()) == [0, 1, 2, 3, 4]
    assert float(each.inertia) < 1e-9


@forms
@pytest.mark.parametrize("t", [2.0, 1e-3, 1e3])
def test_uniformity(t, form):
    distance = pytest.importorskip("scipy.spatial.distance")
    for x in (unit(9, 5), 10 * normal(9, 5), normal(9, 1), with_zeros(unit(9, 5)), unit(2, 5)):
        squared = distance.pdist(numpy(x), "sqeuclidean")
        truth = special.logsumexp(-t * squared) - math.log(len(squared))
        found = uniformity(x, t, backend=form)
        # products round by a part of the squared norms
        largest = float((x * x).sum(1).max())
        assert float(found) == pytest.approx(truth, rel=1e-5, abs=1e-6 + 1e-6 * t * largest)
    equal = unit(1, 5).expand(6, 5).clone().requires_grad_()
    value = uniformity(equal, t, backend=form)
    (gradient,) = torch.autograd.grad(value, [equal])
    assert float(value.detach()) == pytest.approx(0, abs=1e-6 * t)
    assert float(gradient.norm()) < 1e-6 * (1 + t)
    assert float(uniformity(unit(1, 5), t, backend=form)) == 0


def paths(rows, columns):
    """Every monotone path of cells from (0, 0) to the last cell."""
    for moves in itertools.chain.from_iterable(
        set(itertools.permutations("d" * k + "r" * (rows - 1 - k) + "c" * (columns - 1 - k)))
        for k in range(min(rows, columns))
    ):
        i = j = 0
        path = [(0, 0)]
        for move in moves:
            i, j = i + (move in "dr"), j + (move in "dc")
            path.append((i, j))
        yield path


PATHS = {shape: list(paths(*shape)) for shape in ((3, 4), (1, 4), (1, 1), (3, 1))}


def warped(cost, gamma):
    """Value and alignment by enumerating the paths."""
    every = PATHS[cost.shape]
    totals = np.array([sum(cost[cell] for cell in path) for path in every])
    likely = np.zeros_like(cost)
    for share, path in zip(special.softmax(-totals / gamma), every, strict=True):
        for cell in path:
            likely[cell] += share
    return -gamma * special.logsumexp(-totals / gamma), likely


@forms
@pytest.mark.parametrize("gamma", [1e-3, 1.0, 1e3])
def test_time_warping(gamma, form):
    for shape in PATHS:
        for cost in (normal(2, *shape).abs(), 1e3 * normal(2, *shape), torch.zeros(2, *shape, device=DEVICE)):
            truth = [warped(c, gamma) for c in numpy(cost)]
            largest = float(cost.abs().max())
            found = soft_dtw(cost, gamma, backend=form)
            np.testing.assert_allclose(numpy(found), [v for v, _ in truth], rtol=1e-5, atol=1e-5 * gamma)
            # the Triton form and the definition in float32 carry the rounding of cost over gamma
            allowed = 1e-5 + (2e-6 * largest / gamma if form != "chunked" else 0)
            np.testing.assert_allclose(numpy(alignment(cost, gamma, backend=form)), [a for _, a in truth], atol=allowed)


@forms
@pytest.mark.parametrize("metric", ["sqeuclidean", "dot"])
def test_time_warping_of_all_pairs(metric, form):
    for x, y in (
        (normal(2, 3, 5), normal(3, 4, 5, seed=1)),
        (normal(1, 1, 1), normal(1, 1, 1, seed=1)),
        (unit(1, 1, 5).expand(2, 3, 5), unit(1, 1, 5).expand(3, 4, 5)),
        (with_zeros(normal(2, 3, 1)), normal(3, 1, 1, seed=1)),
    ):
        a, b = numpy(x, y)
        costs = 1 - np.einsum("itd,jud->ijtu", a, b)
        if metric == "sqeuclidean":
            costs = ((a[:, None, :, None] - b[None, :, None]) ** 2).sum(-1)
        truth = [[warped(cost, 0.1)[0] for cost in row] for row in costs]
        found = pair_soft_dtw(x, y, 0.1, metric=metric, backend=form)
        np.testing.assert_allclose(numpy(found), truth, rtol=1e-5, atol=1e-5)


@forms
@pytest.mark.parametrize(("scale", "shift"), [(5.0, 5.0), (1e3, 1e3), (1e3, -1e3), (-1e3, 0.0)])
def test_match_probabilities(scale, shift, form):
    for x, y in (
        (normal(4, 3, 5), normal(4, 2, 5, seed=1)),
        (with_zeros(normal(4, 3, 5)), with_zeros(normal(4, 2, 5, seed=1)).flip(0)),
        (normal(1, 1, 1), normal(1, 1, 1, seed=1)),
    ):
        a, b = numpy(x, y)
        distance = np.sqrt(((a[:, None, :, None] - b[None, :, None]) ** 2).sum(-1) + 1e-6)
        score = 2 * (shift - scale * distance)
        count = math.log(score[0, 0].size)
        truth = [special.logsumexp(special.log_expit(s), (2, 3)) - count for s in (score, -score)]
        for ours, exact in zip(match_log_probability(x, y, scale, shift, backend=form), truth, strict=True):
            np.testing.assert_allclose(numpy(ours), exact, rtol=2e-5, atol=2e-6 * (1 + abs(score).max()))
        loss = -(truth[0].diagonal().sum() + truth[1].sum() - truth[1].diagonal().sum())
        found = float(sample_contrast(x, y, scale, shift, backend=form))
        assert found == pytest.approx(loss, rel=2e-5, abs=2e-6 * (1 + abs(score).max()))


@pytest.mark.parametrize(
    "call",
    [
        lambda x, t: gram_contrast(x, (x,), temperature=t),
        lambda x, t: max_sim_contrast(x[:, None], x[:, None], temperature=t),
        lambda x, t: max_sim(x[:, None], x[:, None], inner_temperature=t),
        lambda x, t: knn_vote(x, x, torch.arange(4), 2, temperature=t),
        lambda x, t: sinkhorn(x, epsilon=t),
        lambda x, t: uniformity(x, t),
    ],
)
def test_what_must_be_positive_is_refused_as_a_number_and_as_a_tensor(call):
    x = torch.randn(4, 3)
    for t in (0.0, -1.0, torch.tensor(0.0), torch.tensor(-1.0)):
        with pytest.raises(ValueError, match="it is > 0"):
            call(x, t)
