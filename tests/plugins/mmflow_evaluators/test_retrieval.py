from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators import ranking
from mmflow_evaluators.ranking import Ranks, rank
from mmflow_evaluators.retrieval import Retrieval

from mmflow.plugin import ABSENT, Encoding, EvaluationResult, Tokens


def encoding(vectors: Any, axes: tuple[str, ...] = ("sample",), present: Any = None) -> Encoding:
    present = None if present is None else torch.as_tensor(present)
    return Encoding({"pooled": torch.as_tensor(vectors, dtype=torch.float64)}, axes, present)


def scores_as_rows(matrix: Any) -> tuple[Encoding, Encoding]:
    """Two encodings whose dot products are `matrix`."""
    matrix = torch.as_tensor(matrix, dtype=torch.float64)
    return encoding(matrix), encoding(torch.eye(matrix.shape[1]))


def evaluate(
    evaluator: Retrieval, a: Encoding, b: Encoding, match: Any = (), texts: tuple[Any, Any] = (None, None)
) -> EvaluationResult:
    ids = [f"row-{i}" for i in range(len(a))]
    model = SimpleNamespace(reads=lambda encoder: ("caption", True))
    return evaluator.evaluate(a, b, score=evaluator.score, match=match, ids=ids, model=model, texts_of=texts)


def values(measured: EvaluationResult) -> dict[str, float]:
    return {m.name: m.value for m in measured.metrics}


def chances(measured: EvaluationResult) -> dict[str, float | None]:
    return {m.name: m.chance for m in measured.metrics}


def test_identity_is_found_first(dot):
    measured = evaluate(
        Retrieval(data="test", of=("image", "text"), score=dot, at=(1, 5)), *scores_as_rows(torch.eye(20))
    )
    got = values(measured)
    assert got["image_to_text_r1"] == got["text_to_image_r1"] == got["mean_recall"] == 1.0
    assert got["image_to_text_median_rank"] == 1.0
    assert chances(measured)["image_to_text_r1"] == pytest.approx(1 / 20)
    assert chances(measured)["image_to_text_r5"] == pytest.approx(5 / 20)
    assert chances(measured)["text_to_image_median_rank"] == pytest.approx(10.5)


def test_known_ranks_in_both_directions(dot):
    # Right answers on the diagonal; forward ranks 1, 2, 3, backward ranks 2, 2, 1.
    matrix = [[0.9, 0.1, 0.0], [1.0, 0.5, 0.4], [0.3, 0.8, 0.2]]
    got = values(
        evaluate(
            Retrieval(data="test", of=("a", "b"), score=dot, at=(1, 2), average_precision=True),
            *scores_as_rows(matrix),
        )
    )
    assert got["a_to_b_r1"] == pytest.approx(1 / 3)
    assert got["a_to_b_r2"] == pytest.approx(2 / 3)
    assert got["a_to_b_median_rank"] == 2.0
    assert got["a_to_b_map"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert got["b_to_a_r1"] == 0.0
    assert got["b_to_a_r2"] == pytest.approx(1.0)
    assert got["b_to_a_median_rank"] == 2.0


def test_a_score_with_two_directions_is_asked_for_each(one_sided):
    matrix = torch.eye(8)
    got = values(evaluate(Retrieval(data="test", of=("a", "b"), score=one_sided, at=(1,)), *scores_as_rows(matrix)))
    assert got["a_to_b_r1"] == 1.0
    # Backward, the right answer has the lowest score of all.
    assert got["b_to_a_median_rank"] == 8.0


def test_equal_scores_for_all_are_exactly_at_chance(dot):
    constant = encoding(torch.ones(13, 4))
    evaluator = Retrieval(data="test", of=("a", "b"), score=dot, at=(1, 5, 10), average_precision=True)
    match = ([0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 8],)
    for metric in evaluate(evaluator, constant, constant, match).metrics:
        if not metric.name.endswith("median_rank"):
            assert metric.value == pytest.approx(metric.chance, abs=1e-12), metric.name


def test_scores_that_differ_by_rounding_are_ties(dot):
    noise = torch.linspace(-1e-8, 1e-8, 30)[:, None].expand(30, 30)
    a, b = scores_as_rows(torch.ones(30, 30) + noise.T)
    measured = evaluate(Retrieval(data="test", of=("a", "b"), score=dot, at=(1,)), a, b)
    assert values(measured)["a_to_b_r1"] == pytest.approx(1 / 30)
    measured = evaluate(
        Retrieval(data="test", of=("a", "b"), score=dot, at=(1,)), *scores_as_rows(1 + 1e-5 * torch.eye(30))
    )
    assert values(measured)["a_to_b_r1"] == 1.0


def test_equal_captions_answer_each_other(dot):
    # The first two captions say the same: each image may find either.
    matrix = [[0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 0.9]]
    a, b = scores_as_rows(matrix)
    evaluator = Retrieval(data="test", of=("image", "text"), score=dot, at=(1,), match=("caption",))
    assert values(evaluate(evaluator, a, b))["image_to_text_r1"] == pytest.approx(1 / 3)
    measured = evaluate(evaluator, a, b, (["a red dot", "a red dot", "a blue dot"],))
    assert values(measured)["image_to_text_r1"] == 1.0
    assert chances(measured)["image_to_text_r1"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)
    assert measured.examples[0]["right"] == [True, True, False]


def test_absent_values_of_a_match_field_equal_nothing(dot):
    a, b = scores_as_rows([[0.1, 0.9], [0.9, 0.1]])
    evaluator = Retrieval(data="test", of=("a", "b"), score=dot, at=(1,), match=("group",))
    assert values(evaluate(evaluator, a, b, ([None, None],)))["a_to_b_r1"] == 0.0
    assert values(evaluate(evaluator, a, b, (torch.tensor([ABSENT, ABSENT]),)))["a_to_b_r1"] == 0.0
    assert values(evaluate(evaluator, a, b, (torch.tensor([torch.nan, torch.nan]),)))["a_to_b_r1"] == 0.0
    # A number below 0 is one like others, whole or not.
    for value in (-1, -(2**62), -1.0):
        assert values(evaluate(evaluator, a, b, (torch.tensor([value, value]),)))["a_to_b_r1"] == 1.0
    assert values(evaluate(evaluator, a, b, (torch.tensor([4, 4]),)))["a_to_b_r1"] == 1.0


def test_several_captions_an_image(dot):
    # Two images with two captions each (one of them missing): an image finds any of its own.
    images = encoding([[1.0, 0.0], [0.0, 1.0]])
    captions = encoding(
        [[[0.2, 0.9], [0.9, 0.1]], [[0.3, 0.4], [9.0, 9.0]]], ("sample", "caption"), [[True, True], [True, False]]
    )
    measured = evaluate(Retrieval(data="test", of=("image", "text"), score=dot, at=(1,)), images, captions)
    got = values(measured)
    assert got["image_to_text_r1"] == pytest.approx(0.5)  # the second image scores 0.9 with the first's caption
    assert got["text_to_image_r1"] == pytest.approx(2 / 3)
    assert chances(measured)["image_to_text_r1"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert chances(measured)["text_to_image_r1"] == pytest.approx(1 / 2)
    assert [e["query"] for e in measured.examples if e["field"] == "text"] == ["row-0", "row-0", "row-1"]


def test_absent_rows_are_neither_asked_nor_found(dot):
    a = encoding(torch.eye(3), present=[True, True, False])
    b = encoding(torch.eye(3)[[0, 2, 1]] + 0.1, present=[True, False, True])
    measured = evaluate(Retrieval(data="test", of=("a", "b"), score=dot, at=(1,)), a, b)
    # Only row 0 is on both sides; candidates are rows 0 and 2.
    assert values(measured)["a_to_b_r1"] == 1.0
    assert chances(measured)["a_to_b_r1"] == pytest.approx(1 / 2)


@pytest.mark.parametrize("cells", [1, 7, 1000])
def test_bounded_memory_gives_the_same_numbers(table, monkeypatch, cells):
    torch.manual_seed(0)
    a, b = encoding(torch.randn(23, 5)), encoding(torch.randn(23, 5))
    evaluator = Retrieval(data="test", of=("a", "b"), score=table, at=(1, 5), average_precision=True, examples=3)
    whole = evaluate(evaluator, a, b)
    table.largest.clear()
    monkeypatch.setattr(ranking, "CELLS", cells)
    cut = evaluate(evaluator, a, b)
    assert cut == whole
    assert max(table.largest) <= max(cells, 23)


def test_token_scores_come_in_small_tiles(monkeypatch):
    monkeypatch.setattr(ranking, "TOKEN_CELLS", 6)
    seen: list[tuple[int, int]] = []

    class MaxSim:
        def blocks(self, a: Encoding, b: Encoding) -> torch.Tensor:
            seen.append((len(a), len(b)))
            return torch.einsum("ild,jmd->ijlm", a.tokens.values, b.tokens.values).amax(3).sum(2)

    tokens = Tokens(torch.eye(4)[:, None], torch.ones(4, 1, dtype=torch.bool))
    side = Encoding({"tokens": tokens})
    blocks = dict(ranking.score_rows(MaxSim(), side, side, swap=False))
    assert torch.equal(blocks[0], torch.eye(4))
    assert max(n * m for n, m in seen) <= 6


def test_chance_agrees_with_random_orders():
    generator = np.random.default_rng(3)
    rights = [1, 1, 2, 5, 1, 3, 1, 1]
    n, draws = 12, 40_000
    ranks = Ranks(
        *(np.zeros(len(rights), dtype=np.int64) for _ in range(3)), np.array(rights), n, np.arange(len(rights))
    )
    first = np.empty((draws, len(rights)))
    precision = np.empty((draws, len(rights)))
    for column, r in enumerate(rights):
        order = generator.random((draws, n)).argsort(1) < r
        first[:, column] = order.argmax(1) + 1
        at = order.cumsum(1) / np.arange(1, n + 1)
        precision[:, column] = (at * order).sum(1) / r
    for k in (1, 3, 5):
        assert ranks.chance(k) == pytest.approx((first <= k).mean(), abs=0.005)
    assert ranks.chance_precision() == pytest.approx(precision.mean(), abs=0.005)
    # Of a mixture, the median of all ranks of random orders.
    assert ranks.chance_median() == pytest.approx(np.median(first), abs=0.5)


def test_ties_agree_with_random_breaking_of_ties():
    torch.manual_seed(1)
    scores = torch.randint(0, 4, (40, 9)).double()
    good = torch.zeros(40, 9, dtype=torch.bool)
    good[torch.arange(40), torch.randint(0, 9, (40,))] = True
    good |= torch.rand(40, 9) < 0.15
    ranks = rank(iter([(0, scores)]), lambda start, count: good[start : start + count], 9, precision=True)
    hits, firsts, precision = torch.zeros(40), torch.zeros(40), torch.zeros(40)
    draws = 4000
    for _ in range(draws):
        order = (scores + torch.rand(40, 9) * 1e-3).argsort(1, descending=True)
        found = good.gather(1, order).double()
        hits += found[:, :2].amax(1)
        firsts += found.argmax(1) + 1
        precision += (found * found.cumsum(1) / torch.arange(1, 10)).sum(1) / found.sum(1)
    assert np.allclose(ranks.hits(2), hits / draws, atol=0.04)
    assert np.allclose(ranks.expected(), firsts / draws, atol=0.08)
    assert ranks.precision is not None
    assert np.allclose(ranks.precision, precision / draws, atol=0.03)


def test_examples_show_what_was_found(dot):
    matrix = torch.eye(10) + torch.roll(torch.eye(10), 1, 1) * 2
    measured = evaluate(
        Retrieval(data="test", of=("image", "text"), score=dot, at=(1,), examples=2), *scores_as_rows(matrix)
    )
    assert measured.examples[0] == {
        "query": "row-0", "field": "image", "found": ["row-1", "row-0", "row-2", "row-3", "row-4"],
        "field_found": "text", "right": [False, True, False, False, False],
    }  # fmt: skip
    assert [e["query"] for e in measured.examples] == ["row-0", "row-9", "row-0", "row-9"]


def test_scores_that_are_not_finite_are_refused(dot):
    with pytest.raises(ValueError, match="not finite"):
        evaluate(Retrieval(data="test", of=("a", "b"), score=dot), *scores_as_rows([[1.0, torch.nan], [0.0, 1.0]]))


def test_declarations_are_checked(dot):
    with pytest.raises(ValueError, match="two encoders"):
        Retrieval(data="test", of=("image",), score=dot)
    with pytest.raises(ValueError, match="at least 1"):
        Retrieval(data="test", of=("image", "text"), score=dot, at=())


def test_equal_texts_are_equal_answers_in_both_directions(dot):
    # Images 0 and 1 have the same caption; each image scores highest with the caption of the other.
    evaluator = Retrieval(data="test", of=("image", "text"), score=dot, at=(1,))
    assert evaluator.match == "auto"
    sides = scores_as_rows([[0.0, 1.0, 0.2], [1.0, 0.0, 0.3], [0.1, 0.1, 0.9]])
    texts = (None, ["a cat", "a cat", "a dog"])
    measured = evaluate(evaluator, *sides, match="auto", texts=texts)
    assert values(measured)["image_to_text_r1"] == values(measured)["text_to_image_r1"] == 1.0
    # Two of three candidates are right for two queries.
    assert chances(measured)["image_to_text_r1"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)
    assert measured.metrics[0].label == "image → text R@1 (equal caption)"
    assert measured.notes == ["Equal caption is an equal answer (match: auto): 2 of 3 rows share theirs."]
    # An example shows each distinct text once, and the best of equal ones is right.
    first = measured.examples[0]
    assert (first["found"], first["right"]) == (["row-1", "row-2"], [True, False])
    as_listed = evaluate(evaluator, *sides, match=(texts[1],))
    assert values(as_listed) == values(measured)
    own_only = evaluate(evaluator, *sides, match=(), texts=texts)
    assert values(own_only)["image_to_text_r1"] == pytest.approx(1 / 3)
    assert own_only.metrics[0].label == "image → text R@1"


def test_distinct_texts_change_nothing(dot):
    evaluator = Retrieval(data="test", of=("image", "text"), score=dot, at=(1,))
    sides = scores_as_rows(np.random.default_rng(0).normal(size=(9, 9)))
    measured = evaluate(evaluator, *sides, match="auto", texts=(None, [str(i) for i in range(8)] + [None]))
    assert values(measured) == values(evaluate(evaluator, *sides))
    assert measured.notes == []


def test_equal_texts_of_groups_against_a_loop(dot):
    rng = np.random.default_rng(1)
    texts = [[f"text {n}" for n in rng.integers(12, size=int(rng.integers(1, 4)))] for _ in range(10)]
    present = [[at < len(group) for at in range(3)] for group in texts]
    images, captions = rng.normal(size=(10, 5)), rng.normal(size=(10, 3, 5))
    evaluator = Retrieval(data="test", of=("image", "text"), score=dot, at=(1, 3))
    sides = encoding(images), encoding(captions, ("sample", "caption"), present)
    got = values(evaluate(evaluator, *sides, match="auto", texts=(None, texts)))
    members = [(row, at) for row in range(10) for at in range(len(texts[row]))]
    scores = np.array([[images[i] @ captions[row, at] for row, at in members] for i in range(10)])
    right = np.array([[texts[row][at] in texts[i] for row, at in members] for i in range(10)])
    for k in (1, 3):
        forward = [right[i, np.argsort(-scores[i])[:k]].any() for i in range(10)]
        backward = [right[np.argsort(-scores[:, j])[:k], j].any() for j in range(len(members))]
        assert got[f"image_to_text_r{k}"] == pytest.approx(np.mean(forward))
        assert got[f"text_to_image_r{k}"] == pytest.approx(np.mean(backward))
