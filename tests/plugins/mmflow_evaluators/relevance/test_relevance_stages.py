"""The stages that measure orders of candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.choice.scores import mean_rank, top_hits
from mmflow_evaluators.relevance import measures as of
from mmflow_evaluators.relevance.pairwise_retrieval import PairwiseRetrieval
from mmflow_evaluators.relevance.relevance import Relevance
from mmflow_evaluators.relevance.reranking import Reranking
from mmflow_scores.products import Cosine, Dot
from sklearn.metrics import top_k_accuracy_score

from mmflow.plugin import ComponentError, Encoding, Tokens


def encoding(vectors: Any, present: Any = None, axes: tuple[str, ...] = ("sample",)) -> Encoding:
    return Encoding({"pooled": torch.as_tensor(vectors)}, axes, present)


def value(result: Any, name: str) -> Any:
    return next(metric for metric in result.metrics if metric.name == name)


def test_hits_and_ranks_agree_with_scikit_learn_and_average_over_ties(oracle: Any):
    rng = np.random.default_rng(0)
    scores, right = rng.normal(size=(60, 8)), rng.integers(0, 8, 60)
    good = np.arange(8) == right[:, None]
    for k in (1, 3, 8):
        expected = top_k_accuracy_score(right, scores, k=k, labels=range(8)) if k < 8 else 1.0
        assert top_hits(scores, good, k).mean() == pytest.approx(expected)
    assert top_hits(np.zeros((1, 6)), np.arange(6)[None] < 2, 3) == pytest.approx([1 - 4 / 20])
    for case in ("", "--ties", "--constant"):
        call = oracle(f"053-llm-teacher-rcad/rcad_metrics{case}")
        own = np.stack([call["in_sim"][6 * q : 6 * q + 6, q] for q in range(call["in_sim"].shape[1])])
        ranks = mean_rank(own, np.zeros(len(own), int))
        assert ranks.mean() == pytest.approx(call["card_mean_rank_average_ties"])
        if not case:
            first = np.arange(6)[None] < np.ones((len(own), 1))
            assert 100 * top_hits(own, first, 1).mean() == pytest.approx(call["out_r1"])
            assert 100 * top_hits(own, first, 3).mean() == pytest.approx(call["out_r3"])


def test_one_encoder_searches_the_other_rows():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 4, 60))
    x = np.eye(4)[labels] + 0.8 * rng.normal(size=(60, 4))
    stage = Relevance(data="test", of=("image",), labels="label", at=(5, 100))
    found = stage.evaluate(encoding(x), labels=labels, score=Cosine())
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = units @ units.T
    loop = []
    for i in range(60):
        others = sorted((j for j in range(60) if j != i), key=lambda j: -scores[i, j])
        right = sum(int(labels[j] == labels[i]) for j in others)
        loop.append(np.mean([float(labels[j] == labels[i]) for j in others[:right]]))
    assert value(found, "r_precision").value == pytest.approx(np.mean(loop))
    assert value(found, "r_precision").title == "R-precision"
    assert {m.name for m in found.metrics} == {"r_precision", "map_at_r", "map", "ndcg5"}
    assert "NDCG@100 is not measured: a query has 59 candidates." in found.notes
    same = stage.evaluate(encoding(np.ones((60, 4))), labels=labels, score=Cosine())
    assert all(m.value == pytest.approx(m.chance) for m in same.metrics)


def test_several_labels_give_graded_or_plausible_relevance():
    values = torch.tensor([[0, 1], [0, 0], [1, 2], [2, 0]])
    mask = torch.tensor([[True, True], [True, False], [True, True], [False, False]])
    sets = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]])
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 5))
    units = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b)]
    for differing, gains in ((None, sets @ sets.T), (1, None)):
        stage = Relevance(data="test", of=("image", "text"), labels="tags", at=(2,), differing=differing)
        found = stage.evaluate(encoding(a), encoding(b), labels=Tokens(values, mask), score=Cosine())
        if gains is None:
            gains = of.within_hamming(sets, sets, 1) & sets.any(1)[:, None] & sets.any(1)[None]
        expected = np.nanmean(of.ndcg(of.order_of(units[0] @ units[1].T, gains), 2))
        assert value(found, "image_to_text_ndcg2").value == pytest.approx(expected)
        assert "1 queries have no right candidate" in " ".join(found.notes)
    with pytest.raises(ComponentError, match="no query has a right"):
        Relevance(data="test", of=("image",), labels="label").evaluate(
            encoding(a), labels=torch.arange(4), score=Cosine()
        )


def test_a_second_score_repairs_what_the_first_one_finds():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    blurred = x + 1.2 * rng.normal(size=(40, 6))
    exact = Encoding({"pooled": torch.from_numpy(x), "tokens": torch.from_numpy(x)})
    first = Encoding({"pooled": torch.from_numpy(blurred), "tokens": torch.from_numpy(x)})

    class Second(Cosine, name="second_of_tests"):
        def pairs(self, a: Encoding, b: Encoding) -> torch.Tensor:
            return -(a["tokens"] - b["tokens"]).square().sum(-1)

    stage = Reranking(data="test", of=("text", "image"), second="cosine", top=10, at=(1, 5, 50))
    found = stage.evaluate(exact, first, Cosine(), Second())
    reachable = value(found, "reachable").value
    assert value(found, "first_r1").value < reachable < 1
    assert value(found, "r1").value == pytest.approx(reachable)
    assert value(found, "r1").chance == pytest.approx(1 / 40)
    assert "R@50 of 40 candidates is always 1" in " ".join(found.notes)


def test_all_pairs_of_three_spaces():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 8))
    present = torch.ones(30, dtype=torch.bool)
    present[:5] = False
    sides = [encoding(x), encoding(x + 0.1 * rng.normal(size=(30, 8))), encoding(rng.normal(size=(30, 8)), present)]
    stage = PairwiseRetrieval(data="test", of=("image", "text", "sound"), at=(1, 40))
    found = stage.evaluate(*sides, score=Cosine())
    assert len([m for m in found.metrics if m.name.endswith("_r1")]) == 7
    assert value(found, "image_to_text_r1").value == 1.0
    assert value(found, "image_to_text_r1").group == "image → text"
    assert value(found, "image_to_sound_r1").chance == pytest.approx(1 / 25)
    assert value(found, "sound_to_image_r1").chance == pytest.approx(1 / 25)
    assert value(found, "mean_r1").value == pytest.approx(
        np.mean([m.value for m in found.metrics if m.name.endswith("_r1") and m.group])
    )
    assert "R@40 of 30 candidates" in " ".join(found.notes)
    groups = encoding(np.repeat(x[:, None], 2, axis=1), None, ("sample", "caption"))
    both = PairwiseRetrieval(data="test", of=("image", "captions"), at=(1,)).evaluate(sides[0], groups, score=Cosine())
    assert [m.value for m in both.metrics] == [1.0, 1.0, 1.0]
    assert value(both, "image_to_captions_r1").chance == pytest.approx(2 / 60)


def test_equal_texts_are_equal_answers():
    # Rows 0 and 1 have one text; each image scores highest with the text of the other.
    matrix = np.array([[0.0, 1.0, 0.2], [1.0, 0.0, 0.3], [0.1, 0.1, 0.9]])
    sides = encoding(matrix), encoding(np.eye(3))
    texts = (None, ["a cat", "a cat", "a dog"])
    pairs = PairwiseRetrieval(data="test", of=("image", "text"), at=(1,))
    found = pairs.evaluate(*sides, score=Dot(), texts_of=texts)
    assert [m.value for m in found.metrics] == [1.0, 1.0, 1.0]
    assert value(found, "image_to_text_r1").chance == pytest.approx(5 / 9)
    assert value(found, "image_to_text_r1").label == "image → text R@1 (equal texts)"
    assert value(pairs.evaluate(*sides, score=Dot()), "image_to_text_r1").value == pytest.approx(1 / 3)
    again = Reranking(data="test", of=("image", "text"), second=Dot(), score=Dot(), top=2, at=(1,))
    found = again.evaluate(*sides, score=Dot(), second=Dot(), texts_of=texts)
    assert value(found, "r1").value == 1.0
    assert value(found, "r1").chance == pytest.approx(5 / 9)
    assert value(found, "reachable").chance == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert value(again.evaluate(*sides, score=Dot(), second=Dot()), "r1").value == pytest.approx(1 / 3)
