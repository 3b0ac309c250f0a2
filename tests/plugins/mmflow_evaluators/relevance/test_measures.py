"""Measures of an order: against scikit-learn, torchmetrics, published code and loops over all orders of ties."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.relevance import measures as of
from sklearn.metrics import average_precision_score, ndcg_score
from torchmetrics.functional import retrieval as torchmetrics


def plain(name: str, gains: list[float]) -> float:
    """A measure of one order without ties, by its definition."""
    good = [g > 0 for g in gains]
    count = sum(good)
    precision = [sum(good[: p + 1]) / (p + 1) for p in range(len(good))]
    match name:
        case "ndcg":
            best = sum(g / math.log2(p + 2) for p, g in enumerate(sorted(gains, reverse=True)))
            return sum(g / math.log2(p + 2) for p, g in enumerate(gains)) / best
        case "ndcg@3":
            best = sum(g / math.log2(p + 2) for p, g in enumerate(sorted(gains, reverse=True)[:3]))
            return sum(g / math.log2(p + 2) for p, g in enumerate(gains[:3])) / best
        case "r_precision":
            return sum(good[:count]) / count
        case "average_precision":
            return sum(p for p, g in zip(precision, good, strict=True) if g) / count
        case "map_at_r":
            return sum(p for p, g in zip(precision[:count], good[:count], strict=True) if g) / count
        case "precision@2":
            return sum(good[:2]) / 2
        case "recall@2":
            return sum(good[:2]) / count
    return 1 / (good.index(True) + 1)


MEASURES: dict[str, Callable[[of.Order], np.ndarray]] = {
    "ndcg": of.ndcg,
    "ndcg@3": partial(of.ndcg, k=3),
    "r_precision": of.r_precision,
    "average_precision": of.average_precision,
    "map_at_r": of.map_at_r,
    "precision@2": partial(of.precision_at, k=2),
    "recall@2": partial(of.recall_at, k=2),
    "reciprocal_rank": of.reciprocal_rank,
}


@pytest.mark.parametrize("name", MEASURES)
def test_ties_are_the_mean_over_all_their_orders(name: str):
    rng = np.random.default_rng(0)
    for case in range(40):
        size = int(rng.integers(2, 6))
        scores = np.zeros(size) if case % 7 == 0 else rng.integers(0, 3, size).astype(float)
        gains = rng.integers(0, 3, size) if name.startswith("ndcg") else rng.integers(0, 2, size)
        if not gains.any():
            assert np.isnan(MEASURES[name](of.order_of([scores], [gains]))[0])
            continue
        orders = {order for order in permutations(range(size)) if all(np.diff(scores[list(order)]) <= 0)}
        expected = np.mean([plain(name, [float(gains[i]) for i in order]) for order in orders])
        found = of.order_of([scores], [gains])
        assert MEASURES[name](found)[0] == pytest.approx(expected)
        at_random = np.mean([plain(name, [float(gains[i]) for i in order]) for order in permutations(range(size))])
        assert of.chance(MEASURES[name], found)[0] == pytest.approx(at_random)


def test_ndcg_is_that_of_scikit_learn_ties_included():
    rng = np.random.default_rng(0)
    scores, gains = np.round(rng.normal(size=(30, 12)), 1), rng.integers(0, 4, (30, 12))
    gains[:, 0] = 1
    order = of.order_of(scores, gains)
    for k in (1, 5, 12, None):
        assert of.ndcg(order, k).mean() == pytest.approx(ndcg_score(gains, scores, k=k))


def test_without_ties_the_others_are_those_of_the_libraries():
    rng = np.random.default_rng(0)
    # torchmetrics takes scores below 0 for "not found".
    scores, gains = rng.random((30, 12)), rng.random((30, 12)) < 0.3
    gains[:, 0] = True
    order = of.order_of(scores, gains)
    for row in range(30):
        s, g = torch.from_numpy(scores[row]), torch.from_numpy(gains[row])
        pairs = [
            (of.average_precision, average_precision_score(gains[row], scores[row])),
            (of.r_precision, float(torchmetrics.retrieval_r_precision(s, g))),
            (of.reciprocal_rank, float(torchmetrics.retrieval_reciprocal_rank(s, g))),
            (partial(of.precision_at, k=4), float(torchmetrics.retrieval_precision(s, g, top_k=4))),
            (partial(of.recall_at, k=4), float(torchmetrics.retrieval_recall(s, g, top_k=4))),
        ]
        for measure, truth in pairs:
            assert measure(order)[row] == pytest.approx(truth)


def test_published_code_gives_the_same(oracle: Any):
    call = oracle("076-videocon/retrieval_map")
    order = of.order_of(call["in_score"], call["in_label"])
    assert of.average_precision(order).mean() == pytest.approx(call["out_map"])
    call = oracle("068-pcme/pmrp")
    codes, ranking = call["in_codes"], call["in_ranking"]
    scores = -np.argsort(ranking, axis=1).astype(float)
    for distance, row in enumerate(call["out_per_query_rprecision"]):
        gains = of.within_hamming(codes, codes, distance)
        assert of.r_precision(of.order_of(scores, gains)) == pytest.approx(row)


def test_candidates_left_out_count_nowhere():
    rng = np.random.default_rng(0)
    scores, gains = rng.integers(0, 3, (6, 5)).astype(float), rng.integers(0, 2, (6, 5))
    gains[:, 1] = 1
    wide = np.insert(scores, 2, -np.inf, axis=1), np.insert(gains, 2, 0, axis=1)
    for measure in MEASURES.values():
        narrow, order = of.order_of(scores, gains), of.order_of(*wide)
        assert measure(order) == pytest.approx(measure(narrow))
        assert of.chance(measure, order) == pytest.approx(of.chance(measure, narrow))
    assert np.isnan(of.precision_at(of.order_of(*wide), 6)).all()


def test_bad_scores_and_gains_are_refused():
    for scores, gains, message in (
        ([[math.nan, 1]], [[0, 1]], "not finite"),
        ([[math.inf, 1]], [[0, 1]], "not finite"),
        ([[1, 2]], [[-1, 1]], "from 0 on"),
        ([[-math.inf, 2]], [[1, 1]], "left out"),
        ([1, 2], [0, 1], "not both"),
    ):
        with pytest.raises(ValueError, match=message):
            of.order_of(scores, gains)


def test_a_second_score_orders_the_first_candidates_again():
    first = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    top = np.argsort(-first, axis=1)[:, :2]
    second = np.array([[0.1, 0.9], [0.5, 0.5]])
    found = of.reranked(first, second, top)
    assert np.argsort(-found[0]).tolist() == [1, 0, 2, 3]
    assert found[1, 3] == found[1, 2] > found[1, 1] > found[1, 0]


def test_graded_and_plausible_relevance():
    a, b = np.array([[1, 1, 0], [0, 0, 1]]), np.array([[1, 1, 1], [0, 0, 0]])
    assert of.shared_labels(a, b).tolist() == [[2, 0], [1, 0]]
    assert of.within_hamming(a, b, 1).tolist() == [[True, False], [False, True]]
    assert of.within_hamming(a, b, 2).tolist() == [[True, True], [True, True]]
