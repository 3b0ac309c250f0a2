"""Agreement of clusters with classes: against scikit-learn, torchmetrics and loops over matchings."""

from __future__ import annotations

import math
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.clustering import agreement
from mmflow_evaluators.clustering.category_discovery import CategoryDiscovery
from mmflow_evaluators.clustering.clustering import Clustering
from mmflow_evaluators.clustering.discovery import discovery_hits, seeded_kmeans
from sklearn import metrics
from torchmetrics import clustering as torchmetrics

from mmflow.plugin import ComponentError, Encoding


def encoding(vectors: Any, present: Any = None) -> Encoding:
    return Encoding({"pooled": torch.as_tensor(vectors)}, ("sample",), present)


def value(result: Any, name: str) -> Any:
    return next(metric for metric in result.metrics if metric.name == name)


def best_by_loop(classes: np.ndarray, clusters: np.ndarray) -> float:
    names, groups = sorted({*classes.tolist()}), sorted({*clusters.tolist()})
    longer, shorter = (names, groups) if len(names) >= len(groups) else (groups, names)
    best = 0
    for chosen in permutations(longer, len(shorter)):
        pairs = zip(chosen, shorter, strict=True) if longer is names else zip(shorter, chosen, strict=True)
        best = max(best, sum(int(((classes == c) & (clusters == k)).sum()) for c, k in pairs))
    return best / len(classes)


def cases() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    found = [
        (rng.integers(0, rng.integers(1, 5), size), rng.integers(0, rng.integers(1, 6), size) * 7 + 3)
        for size in rng.integers(1, 30, 60)
    ]
    same = np.arange(6) // 2
    return [*found, (same, same[::-1].copy()), (same, np.zeros(6, int)), (np.zeros(6, int), np.arange(6))]


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_scores_agree_with_scikit_learn_torchmetrics_and_a_loop():
    for classes, clusters in cases():
        assert agreement.hungarian_accuracy(classes, clusters) == pytest.approx(best_by_loop(classes, clusters))
        nmi = agreement.normalized_mutual_information(classes, clusters)
        assert nmi == pytest.approx(metrics.normalized_mutual_info_score(classes, clusters), abs=1e-9)
        assert nmi == pytest.approx(metrics.v_measure_score(classes, clusters), abs=1e-9)
        ari = agreement.adjusted_rand_index(classes, clusters)
        assert ari == pytest.approx(metrics.adjusted_rand_score(classes, clusters))
        both = agreement.homogeneity_completeness(classes, clusters)
        assert both == pytest.approx(metrics.homogeneity_completeness_v_measure(classes, clusters)[:2], abs=1e-9)
        # A row a class and a row a cluster leave nothing to adjust; torchmetrics then divides by zero.
        if 1 < len(np.unique(classes)) < len(classes) and 1 < len(np.unique(clusters)) < len(classes):
            a, b = torch.from_numpy(clusters), torch.from_numpy(classes)
            ami = agreement.adjusted_mutual_information(classes, clusters)
            assert ami == pytest.approx(float(torchmetrics.AdjustedMutualInfoScore()(a, b)), abs=2e-3)
            assert ari == pytest.approx(float(torchmetrics.AdjustedRandScore()(a, b)), abs=1e-5)


def test_names_of_clusters_do_not_matter_and_bad_input_is_refused():
    classes, clusters = np.array([0, 0, 1, 1, 2]), np.array([5, 5, 9, 9, -1])
    assert agreement.hungarian_accuracy(classes, clusters) == 1.0
    assert agreement.normalized_mutual_information(classes, clusters) == pytest.approx(1.0)
    for bad in ([], [0.5] * 5, [math.nan] * 5, [1] * 4):
        with pytest.raises(ValueError, match="classes"):
            agreement.hungarian_accuracy(classes if bad else [], bad)


def test_chance_is_what_random_clusters_of_the_same_sizes_give():
    rng = np.random.default_rng(0)
    classes, clusters = rng.integers(0, 4, 400), rng.integers(0, 4, 400)
    for measure in (agreement.hungarian_accuracy, agreement.normalized_mutual_information):
        chance = agreement.chance_agreement(measure, classes, clusters)
        assert measure(classes, clusters) == pytest.approx(chance, abs=0.03)
    assert agreement.chance_agreement(agreement.hungarian_accuracy, classes, np.zeros(400, int)) == pytest.approx(
        np.bincount(classes).max() / 400
    )


def test_discovery_matches_once_over_all_rows():
    # Cluster 0 would fit the old class 0 and the new class 2 alike; it may count for one of them only.
    classes = np.array([0, 0, 1, 1, 2, 2, 2])
    clusters = np.array([0, 0, 1, 1, 0, 0, 0])
    found = discovery_hits(classes, clusters, known=[0, 1])
    assert found.accuracies == pytest.approx((5 / 7, 2 / 4, 1.0))
    loop = best_by_loop(classes, clusters)
    assert found.accuracies[0] == pytest.approx(loop)
    assert math.isnan(discovery_hits([0, 1], [0, 1], known=[0, 1]).accuracies[2])
    assert discovery_hits([0, 0, 0], [0, 1, 2], known=[]).accuracies[0] == pytest.approx(1 / 3)


def test_discovery_gives_the_published_numbers(oracle: Any):
    call = oracle("029-gpc/gcd_accuracy")
    known = np.unique(call["in_y_true"][call["in_mask"]])
    found = discovery_hits(call["in_y_true"], call["in_y_pred"], known)
    assert found.accuracies == pytest.approx(tuple(float(call[name]) for name in ("out_all", "out_old", "out_new")))


def test_seeded_kmeans_keeps_labeled_rows_and_finds_the_rest():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 20)
    rows = np.eye(4)[truth] * 5 + 0.2 * rng.normal(size=(80, 4))
    classes = np.where((truth < 2) & (np.arange(80) % 2 == 0), truth, -1)
    found = seeded_kmeans(rows, classes, 4, np.random.default_rng(0))
    assert (found[classes >= 0] == classes[classes >= 0]).all()
    assert (found[truth < 2] == truth[truth < 2]).all()
    assert agreement.hungarian_accuracy(truth, found) == 1.0
    # A row with a class stays with it, however far it lies.
    outlier = rows.copy()
    outlier[0] = 1e3
    assert seeded_kmeans(outlier, classes, 4, np.random.default_rng(0))[0] == 0
    with pytest.raises(ValueError, match="1 clusters for 2 known"):
        seeded_kmeans(rows, classes, 1, np.random.default_rng(0))
    duplicates = seeded_kmeans(np.zeros((5, 2)), np.full(5, -1), 3, np.random.default_rng(0))
    assert (duplicates == 0).all()


def test_clustering_finds_blobs_and_their_number():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 25)
    rows = np.eye(6)[labels] + 0.05 * rng.normal(size=(100, 6))
    stage = Clustering(data="test", of=("image",), labels="label", clusters=(2, 4, 7))
    found = stage.evaluate(encoding(rows), labels=torch.from_numpy(labels), assigned=None)
    assert {m.name: m.value for m in found.metrics} == pytest.approx(
        {"clusters_found": 4, "hungarian_accuracy": 1, "nmi": 1, "ami": 1, "ari": 1}
    )
    assert value(found, "ari").chance == 0
    assert 0.25 < value(found, "hungarian_accuracy").chance < 0.5
    again = stage.evaluate(encoding(rows), labels=torch.from_numpy(labels), assigned=None)
    assert again.metrics == found.metrics
    with pytest.raises(ComponentError, match="200 clusters of 100"):
        Clustering(data="test", of=("image",), labels="label", clusters=200).evaluate(
            encoding(rows), labels=torch.from_numpy(labels), assigned=None
        )


def test_clustering_takes_clusters_from_a_field_and_says_when_there_is_one_class():
    stage = Clustering(data="test", labels="label", assigned="group")
    labels = torch.tensor([0, 0, 1, 1, -1, 1])
    found = stage.evaluate(labels=labels, assigned=torch.tensor([2, 2, 0, 0, 5, -1]))
    assert value(found, "clusters_found").value == 2
    assert value(found, "hungarian_accuracy").value == 1
    with pytest.raises(ComponentError, match="6 labeled rows of one class"):
        stage.evaluate(labels=torch.zeros(6).long(), assigned=torch.tensor([0, 1, 2, 0, 1, 2]))
    with pytest.raises(ComponentError, match="no row has a label"):
        stage.evaluate(labels=torch.full((6,), -1), assigned=torch.zeros(6))
    with pytest.raises(ValueError, match="either `of`"):
        Clustering(data="test", labels="label")


def test_category_discovery_tells_old_from_new():
    rng = np.random.default_rng(0)
    own = np.repeat([0, 1], 15)
    asked = np.repeat(np.arange(4), 20)
    rows, others = (np.eye(6)[c] + 0.05 * rng.normal(size=(len(c), 6)) for c in (own, asked))
    test = SimpleNamespace(of=(encoding(others),), fields={"labels": torch.from_numpy(asked)}, ids=[])
    stage = CategoryDiscovery(data="labeled", test="rest", of=("image",), labels="label")
    found = stage.evaluate(encoding(rows), labels=torch.from_numpy(own), test=test)
    expected = {"clusters_found": 4, "all_accuracy": 1, "old_accuracy": 1, "new_accuracy": 1}
    assert {m.name: m.value for m in found.metrics} == expected
    assert 0.2 < value(found, "all_accuracy").chance < 0.5
    test.fields["labels"] = torch.from_numpy(asked % 2)
    none_new = stage.evaluate(encoding(rows), labels=torch.from_numpy(own), test=test)
    assert "new_accuracy: no row" in " ".join(none_new.notes)
