"""The small stages between trainings: exact values, and outputs that are read where the language says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans as OfSklearn

from mmflow.artifacts import ColumnArtifact, DataArtifact, StaticArtifact
from mmflow.data.made import MadeData

Run = Callable[..., Any]

CLUSTERS = """
stages:
  feats: {use: embed, data: train, of: z, model: init}
  km: {use: kmeans, of: feats.z, k: 4}
"""


def test_kmeans_finds_groups_that_lie_apart_and_their_centers(run: Run) -> None:
    ran = run(CLUSTERS)
    column = ColumnArtifact(ran.folder("feats"), "z").read()
    labels = ColumnArtifact(ran.folder("km"), "label").read()
    groups = {int(id[1:]) % 4: label for id, label in labels.items()}
    assert len(labels) == 24
    assert sorted(groups.values()) == [0, 1, 2, 3]
    assert all(labels[id] == groups[int(id[1:]) % 4] for id in labels)
    centers, declared = StaticArtifact(ran.folder("km"), "centers").read()
    assert declared.axes == ("cluster",)
    for group, label in groups.items():
        mean = np.mean([column[id] for id in column if int(id[1:]) % 4 == group], axis=0)
        assert centers[label] == pytest.approx(mean, abs=1e-5)
    x = np.stack(list(column.values()))
    assert sorted(map(tuple, centers.round(4))) == sorted(
        map(tuple, OfSklearn(4, n_init=3, random_state=0).fit(x).cluster_centers_.round(4))
    )


def test_density_is_the_mean_distance_over_the_logarithm_of_the_size(run: Run) -> None:
    ran = run(CLUSTERS, "stages.km.mean_density=0.1")
    column = ColumnArtifact(ran.folder("feats"), "z").read()
    labels = ColumnArtifact(ran.folder("km"), "label").read()
    centers, _ = StaticArtifact(ran.folder("km"), "centers").read()
    density, declared = StaticArtifact(ran.folder("km"), "density").read()
    by_hand = np.array(
        [
            sum(np.linalg.norm(column[id] - centers[c]) for id in column if labels[id] == c) / 6 / np.log(6 + 10)
            for c in range(4)
        ]
    )
    assert declared.axes == ("cluster",)
    assert density == pytest.approx(by_hand / by_hand.mean() * 0.1, rel=1e-5)


def test_more_clusters_than_rows_are_refused(run: Run) -> None:
    ran = run(CLUSTERS, "stages.km.k=25", fails=True)
    assert "25 clusters of 24 rows" in str(ran.outcome.outcome.notes)


def test_class_means_of_the_rows_that_count(run: Run) -> None:
    ran = run(
        "stages:\n  means: {use: class_means, data: train, of: z, labels: label, model: init}\n"
        "  unit: {use: class_means, data: train, of: z, labels: label, normalize: true, model: init}\n"
    )
    reader = ran.outcome.plan.keys._spec.data["train"].open()
    vectors, declared = StaticArtifact(ran.folder("means"), "vectors").read()
    count, _ = StaticArtifact(ran.folder("means"), "count").read()
    for label in (0, 1):
        rows = [reader[i]["x"] for i in range(24) if reader[i]["label"] == label]
        assert vectors[label] == pytest.approx(np.mean(rows, axis=0), abs=1e-6)
        assert count[label] == len(rows)
    assert declared.names == ("even", "odd")
    unit, _ = StaticArtifact(ran.folder("unit"), "vectors").read()
    assert np.linalg.norm(unit, axis=1) == pytest.approx(1)


def test_codes_in_a_mixed_radix(run: Run) -> None:
    ran = run(
        CLUSTERS + "  two: {use: kmeans, of: feats.z, k: 2}\n"
        "  code: {use: mixed_radix, of: [km.label, two.label], base: [4, 2]}\n"
        "  wrong: {use: mixed_radix, of: km.label, base: 3}\n",
        fails=True,
    )
    one, two = (ColumnArtifact(ran.folder(name), "label").read() for name in ("km", "two"))
    assert ColumnArtifact(ran.folder("code"), "code").read() == {id: 2 * one[id] + two[id] for id in one}
    assert "mixed_radix: km.label has the value 3" in str(ran.outcome.outcome.notes)


def test_selected_rows_are_read_where_they_were(run: Run) -> None:
    ran = run(
        CLUSTERS + "  odd: {use: select, data: train, keep: label, fields: {cluster: km.label}}\n"
        "  again: {use: embed, data: odd, of: z, model: init}\n"
    )
    spec = ran.outcome.plan.keys._spec
    kept = [f"r{i}" for i in range(24) if spec.data["train"].open()[i]["label"] == 1]
    data = MadeData(path="odd", artifact=DataArtifact(ran.folder("odd"), "rows"), of=spec.data["train"])
    reader = data.open()
    assert [reader.id(i) for i in range(len(reader))] == kept
    assert reader[0]["name"] == f"row {kept[0][1:]}"
    assert reader.static()["names"] == ["even", "odd"]
    assert spec.scope("again").fields["cluster"].modality == "label"
    before, after = (ColumnArtifact(ran.folder(name), "z").read() for name in ("feats", "again"))
    assert list(after) == kept
    assert all((before[id] == after[id]).all() for id in kept)
