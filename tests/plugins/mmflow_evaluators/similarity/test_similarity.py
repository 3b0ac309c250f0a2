"""Similarity of representations: against the published toolbox, loops over the definitions, and invariances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.intervals import jackknife_interval
from mmflow_evaluators.similarity import spectrum as spectra
from mmflow_evaluators.similarity.encoder_pairs import RepresentationSimilarity
from mmflow_evaluators.similarity.kernels import linear_cka, neighbor_cka, rbf_cka, unbiased_cka
from mmflow_evaluators.similarity.neighbors import cycle_knn, mutual_knn
from mmflow_evaluators.similarity.spectrum_stage import Spectrum
from scipy.stats import ortho_group

from mmflow.plugin import ComponentError, Encoding

pytestmark = pytest.mark.slow


def encoding(vectors: Any, present: Any = None) -> Encoding:
    return Encoding({"pooled": torch.as_tensor(vectors)}, ("sample",), present)


def value(result: Any, name: str) -> Any:
    return next(metric for metric in result.metrics if metric.name == name)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("case", ["", "--unrelated"])
def test_the_published_toolbox_gives_the_same(oracle: Any, case: str):
    call = oracle(f"094-dynamic-reflections/alignment_metrics{case}")
    x, y, k = call["in_X"], call["in_Y"], int(call["opt_k"])
    assert mutual_knn(x, y, k).mean() == pytest.approx(call["out_mutual_knn"])
    assert cycle_knn(x, y, k).mean() == pytest.approx(call["out_cycle_knn"], abs=1e-6)
    assert linear_cka(x, y) == pytest.approx(call["out_cka"])
    assert rbf_cka(x, y, 0.8) == pytest.approx(call["out_cka_rbf"], abs=1e-6)
    # The toolbox adds 1e-6 to what it divides by.
    assert unbiased_cka(x, y) == pytest.approx(call["out_unbiased_cka"], rel=2e-5)
    assert neighbor_cka(x, y, k) == pytest.approx(call["out_cknna"], rel=1e-4)


def test_cka_by_its_definition_with_kernels():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(15, 4)), rng.normal(size=(15, 7))
    y[:, :4] += x
    center = np.eye(15) - 1 / 15
    k, m = center @ x @ x.T @ center, center @ y @ y.T @ center
    expected = np.trace(k @ m) / math.sqrt(np.trace(k @ k) * np.trace(m @ m))
    assert linear_cka(x, y) == pytest.approx(expected)
    turned = x @ ortho_group.rvs(4, random_state=0) * 3 + 5
    assert linear_cka(turned, y) == pytest.approx(expected)
    assert linear_cka(x, turned) == pytest.approx(1.0)
    assert unbiased_cka(turned - 5, y) == pytest.approx(unbiased_cka(x, y))


def test_unbiased_cka_of_unrelated_rows_is_zero_on_average_where_the_biased_is_not():
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(20, 60)), rng.normal(size=(20, 60))) for _ in range(200)]
    assert np.mean([unbiased_cka(x, y) for x, y in pairs]) == pytest.approx(0, abs=0.02)
    assert np.mean([linear_cka(x, y) for x, y in pairs]) > 0.6


def test_a_constant_representation_has_no_cka():
    x, y = np.ones((10, 3)), np.random.default_rng(0).normal(size=(10, 3))
    for measure in (linear_cka, unbiased_cka):
        assert math.isnan(measure(x, y))
        assert math.isnan(measure(y, x))
    assert math.isnan(unbiased_cka(y[:3], y[:3]))


def test_mutual_neighbors_against_a_loop_and_in_ties():
    rng = np.random.default_rng(0)
    x, y = unit(rng.normal(size=(40, 5))), unit(rng.normal(size=(40, 8)))
    loop = []
    for i in range(40):
        nearest = [sorted((j for j in range(40) if j != i), key=lambda j: -float(z[i] @ z[j]))[:6] for z in (x, y)]
        loop.append(len(set(nearest[0]) & set(nearest[1])) / 6)
    assert mutual_knn(x, y, 6) == pytest.approx(np.array(loop))
    assert mutual_knn(x, x, 6) == pytest.approx(np.ones(40))
    assert mutual_knn(x, y, 39) == pytest.approx(np.ones(40))
    # A collapsed representation, alone or both, is at chance.
    same = np.tile([1.0, 0.0], (40, 1))
    assert mutual_knn(same, x, 6).mean() == pytest.approx(6 / 39)
    assert mutual_knn(same, same, 6).mean() == pytest.approx(6 / 39)
    for k in (0, 40, 41):
        with pytest.raises(ValueError, match="of 40 rows"):
            mutual_knn(x, y, k)


def test_unrelated_rows_are_at_the_stated_chance():
    rng = np.random.default_rng(0)
    x, y = unit(rng.normal(size=(1500, 16))), unit(rng.normal(size=(1500, 16)))
    assert mutual_knn(x, y, 10).mean() == pytest.approx(10 / 1499, abs=0.002)


def test_the_interval_of_cka_covers_what_many_rows_give():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 5))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(count, 6))
        return x, x @ mix + 2 * rng.normal(size=(count, 5))

    truth = unbiased_cka(*draw(4000))
    covered = 0
    for case in range(300):
        x, y = draw(80)
        found = jackknife_interval(lambda i: unbiased_cka(x[i], y[i]), 80, at=(case,), bounds=(-1, 1))  # noqa: B023
        assert found is not None
        covered += truth in found
    assert 0.91 * 300 <= covered <= 0.98 * 300
    assert jackknife_interval(lambda i: 0.5, 30, at=()) is None


@pytest.mark.parametrize("case", ["", "--centred"])
def test_conformity_is_the_mean_cosine_with_all_others(oracle: Any, case: str):
    call = oracle(f"030-double-ellipsoid/conformity{case}")
    x = unit(call["in_x"])
    assert spectra.conformity(x) == pytest.approx(call["card_exact"])
    with pytest.raises(ValueError, match="two rows"):
        spectra.conformity(x[:1])


def test_spectrum_and_ranks_of_known_variances():
    rng = np.random.default_rng(0)
    axes = ortho_group.rvs(8, random_state=0)
    x = rng.normal(size=(200, 8)) * np.array([4, 2, 1, 0, 0, 0, 0, 0.0]) @ axes + 7
    found = spectra.spectrum(x)
    assert found == pytest.approx(np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1], abs=1e-9)
    assert (found[3:] < 1e-20).all()
    even = np.ones(5)
    assert spectra.participation_ratio(even) == pytest.approx(5)
    assert spectra.entropy_rank(even) == pytest.approx(5)
    assert spectra.axes_for(even, 0.9) == 5
    assert spectra.axes_for(np.array([9.0, 1.0]), 0.9) == 1
    equal = spectra.spectrum(np.full((6, 4), 0.3))
    assert (spectra.participation_ratio(equal), spectra.entropy_rank(equal), spectra.axes_for(equal, 0.9)) == (0, 0, 0)
    assert len(spectra.spectrum(rng.normal(size=(4, 10)))) == 3
    with pytest.raises(ValueError, match="two rows"):
        spectra.spectrum(np.ones((1, 3)))


def test_collapse_is_seen():
    rng = np.random.default_rng(0)
    assert spectra.spread_of_units(unit(rng.normal(size=(3000, 32)))) == pytest.approx(1.0, abs=0.01)
    assert spectra.spread_of_units(np.tile([0.6, 0.8], (10, 1))) == pytest.approx(0.0, abs=1e-12)
    classes = np.arange(60) % 3
    assert spectra.within_class_share(np.eye(3)[classes], classes) == pytest.approx(0.0)
    x = rng.normal(size=(60, 3))
    means = np.stack([x[classes == c].mean(0) for c in range(3)])
    loop = ((x - means[classes]) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    assert spectra.within_class_share(x, classes) == pytest.approx(loop)
    assert math.isnan(spectra.within_class_share(np.ones((4, 2)), np.arange(4)))


def test_encoders_are_compared_pair_by_pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6))
    near, far = x @ rng.normal(size=(6, 4)), rng.normal(size=(80, 3))
    stage = RepresentationSimilarity(data="test", of=("a", "b", "c"), k=5)
    found = stage.evaluate(encoding(x), encoding(near), encoding(far))
    assert value(found, "a_b_mutual_knn").value > value(found, "a_c_mutual_knn").value
    assert value(found, "a_c_mutual_knn").chance == pytest.approx(5 / 79)
    assert value(found, "a_b_linear_cka").value == pytest.approx(linear_cka(x, near))
    assert value(found, "a_c_linear_cka").value == pytest.approx(value(found, "a_c_linear_cka").chance, abs=0.1)
    assert value(found, "a_c_unbiased_cka").spread > 0
    two = RepresentationSimilarity(data="test", of=("a", "b"), k=5)
    collapsed = two.evaluate(encoding(x), encoding(np.ones((80, 3))))
    assert [m.name for m in collapsed.metrics] == ["mutual_knn"]
    assert collapsed.metrics[0].value == pytest.approx(collapsed.metrics[0].chance)
    assert "all equal" in " ".join(collapsed.notes)
    with pytest.raises(ComponentError, match="4 rows for k = 5"):
        two.evaluate(encoding(x[:4]), encoding(near[:4]))


def test_the_spectrum_of_an_encoder_is_told_with_what_it_lacks():
    rng = np.random.default_rng(0)
    labels = torch.arange(60) % 3
    x = np.eye(8)[labels.numpy()] + 0.1 * rng.normal(size=(60, 8))
    stage = Spectrum(data="test", of=("image",), labels="label")
    found = stage.evaluate(encoding(x), labels=labels)
    assert value(found, "participation_ratio").value == pytest.approx(
        spectra.participation_ratio(np.sort(np.linalg.eigvalsh(np.cov(x.T))))
    )
    assert value(found, "within_class_share").value < 0.3
    assert value(found, "conformity_to_mean_correlation").value > 0.9
    few = stage.evaluate(encoding(x[:5]), labels=labels[:5])
    assert "8 dimensions, and the data 5 rows" in " ".join(few.notes)
    flat = stage.evaluate(encoding(np.ones((60, 8))), labels=labels)
    assert value(flat, "participation_ratio").value == 0
    assert value(flat, "conformity").value == pytest.approx(1.0)
    assert "within_class_share" not in {m.name for m in flat.metrics}
