"""Choices among a row's own candidates, against loops that draw the order of ties."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_evaluators.choice.multiple_choice import MultipleChoice
from mmflow_evaluators.choice.pair_matching import PairMatching
from mmflow_evaluators.choice.scores import all_right, choice_hits, matching_hits
from mmflow_scores.products import Cosine

from mmflow.plugin import ComponentError, Encoding


def group(values: Any, present: Any = None) -> Encoding:
    return Encoding({"pooled": torch.as_tensor(values)}, ("sample", "candidate"), present)


def single(values: Any, present: Any = None) -> Encoding:
    return Encoding({"pooled": torch.as_tensor(values)}, ("sample",), present)


def value(result: Any, name: str) -> Any:
    return next(metric for metric in result.metrics if metric.name == name)


def drawn_choice(scores: np.ndarray, right: np.ndarray, present: np.ndarray) -> float:
    """Mean over all orders of the candidates of "the first of the best is right"."""
    orders = list(permutations(np.flatnonzero(present)))
    return float(np.mean([right[max(order, key=lambda c: scores[c])] for order in orders]))


def test_choices_against_every_order_of_ties():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.integers(0, 3, (1, 4)).astype(float)
        right, present = rng.random((1, 4)) < 0.4, rng.random((1, 4)) < 0.8
        hit, chance = choice_hits(scores, right, present)
        good = right[0] & present[0]
        if not good.any() or good.sum() == present.sum():
            assert np.isnan(hit[0])
            assert np.isnan(chance[0])
        else:
            assert hit[0] == pytest.approx(drawn_choice(scores[0], good, present[0]))
            assert chance[0] == good.sum() / present.sum()


def test_equal_scores_are_at_chance_and_a_rounding_error_is_no_difference():
    hit, chance = choice_hits(np.full((3, 5), 7.0), [0, 1, 4])
    assert hit == pytest.approx([0.2] * 3)
    assert (hit == chance).all()
    assert choice_hits([[0.5, 0.5 + 1e-9]], [0])[0] == [0.5]
    assert matching_hits(np.zeros((1, 2, 2))).both == pytest.approx([1 / 6])
    assert matching_hits(np.zeros((1, 2, 2))).forward == pytest.approx([1 / 4])


def test_no_candidates_are_no_failure_of_the_model():
    hit, _ = choice_hits(np.zeros((3, 2)), [0, 0, 2], [[True, False], [False, False], [True, True]])
    assert np.isnan(hit).all()
    assert choice_hits(np.zeros((0, 3)), np.zeros(0, int))[0].shape == (0,)
    with pytest.raises(ValueError, match="not finite"):
        choice_hits([[np.nan, 1.0]], [0])
    assert choice_hits([[np.nan, 1.0, 0.0]], [1], [[False, True, True]])[0] == [1.0]
    with pytest.raises(ValueError, match=r"not \[2\]"):
        choice_hits([0.0, 1.0], [0])


def test_matching_against_every_order_of_ties():
    rng = np.random.default_rng(0)
    cases = rng.integers(0, 3, (200, 2, 2)).astype(float)
    found = matching_hits(cases)
    for row, s in enumerate(cases):
        outcomes = []
        for order in permutations(range(4)):
            t = {(i, j): (s[i, j], order[2 * i + j]) for i in (0, 1) for j in (0, 1)}
            forward = t[0, 0] > t[0, 1] and t[1, 1] > t[1, 0]
            backward = t[0, 0] > t[1, 0] and t[1, 1] > t[0, 1]
            outcomes.append((forward, backward, forward and backward))
        expected = np.mean(outcomes, axis=0)
        assert (found.forward[row], found.backward[row], found.both[row]) == pytest.approx(tuple(expected))
    clear = matching_hits([[[2.0, 1.0], [0.0, 3.0]], [[2.0, 1.0], [4.0, 5.0]]])
    assert clear.forward.tolist() == [1, 1]
    assert clear.backward.tolist() == [1, 0]
    with pytest.raises(ValueError, match="not finite"):
        matching_hits([[[np.nan, 0], [0, 0]]])


def test_random_scores_are_at_the_stated_chance():
    found = matching_hits(np.random.default_rng(0).random((100_000, 2, 2)))
    assert found.forward.mean() == pytest.approx(1 / 4, abs=0.006)
    assert found.backward.mean() == pytest.approx(1 / 4, abs=0.006)
    assert found.both.mean() == pytest.approx(1 / 6, abs=0.006)


def test_groups_are_right_when_all_their_rows_are():
    together, first = all_right(np.array([1.0, 0.5, np.nan, 1.0, np.nan]), [7, 5, 5, 7, 9])
    assert together.tolist() == [1.0, 0.5]
    assert first.tolist() == [0, 1]


def test_multiple_choice_finds_the_right_caption():
    images = torch.eye(4)
    captions = torch.stack([torch.eye(4), torch.eye(4).roll(1, 0), torch.zeros(4, 4)], dim=1)
    stage = MultipleChoice(data="test", of=("image", "captions"))
    found = stage.evaluate(single(images), group(captions), None, None, None, Cosine(), None)
    accuracy = value(found, "accuracy")
    assert accuracy.value == 1.0
    assert accuracy.chance == pytest.approx(1 / 3)
    assert accuracy.spread > 0
    wrong = stage.evaluate(single(images), group(captions), torch.ones(4).long(), None, None, Cosine(), None)
    assert value(wrong, "accuracy").value == 0.0
    # A zero vector has the cosine 0 with all: row 1 ties with nothing, its own candidate is best.
    pair = stage.evaluate(single(images), group(captions), None, ["a", "a", "b", "b"], None, Cosine(), None)
    assert value(pair, "together_accuracy").chance == pytest.approx(1 / 9)
    present = torch.ones(4, 3, dtype=torch.bool)
    present[:, 1:] = False
    with pytest.raises(ComponentError, match="beside a wrong one"):
        stage.evaluate(single(images), group(captions, present), None, None, None, Cosine(), None)
    with pytest.raises(ComponentError, match="number 3"):
        stage.evaluate(single(images), group(captions), torch.full((4,), 3), None, None, Cosine(), None)
    with pytest.raises(ComponentError, match="a group of candidates"):
        stage.evaluate(single(images), single(images), None, None, None, Cosine(), None)


def test_multiple_choice_leaves_out_rows_without_a_choice_and_says_so():
    present = torch.ones(4, 2, dtype=torch.bool)
    present[0, 1] = False
    captions = torch.stack([torch.eye(4), -torch.eye(4)], dim=1)
    stage = MultipleChoice(data="test", of=("image", "captions"), by="kind")
    named = type("Names", (), {"names": lambda self, field: ("color", "shape")})()
    found = stage.evaluate(
        single(torch.eye(4)), group(captions, present), None, None, torch.tensor([0, 1, 1, -1]), Cosine(), named
    )
    assert value(found, "accuracy").value == 1.0
    assert "1 of 4 rows" in " ".join(found.notes)
    kinds = found.figures["Accuracy by kind"]
    assert (kinds["labels"], kinds["counts"]) == (["shape"], [2])


def test_pair_matching_needs_two_values_on_both_sides():
    a = torch.randn(50, 2, 8, generator=torch.Generator().manual_seed(0))
    stage = PairMatching(data="test", of=("image", "text"))
    found = stage.evaluate(group(a), group(a), Cosine())
    assert [m.name for m in found.metrics] == ["image_to_text", "text_to_image", "both"]
    assert [m.value for m in found.metrics] == [1.0, 1.0, 1.0]
    assert [m.chance for m in found.metrics] == [1 / 4, 1 / 4, 1 / 6]
    same = stage.evaluate(group(a), group(torch.ones(50, 2, 8)), Cosine())
    # Both texts of a row score equally with its images: each image finds its own in one order of four.
    assert value(same, "image_to_text").value == pytest.approx(1 / 4)
    assert value(same, "text_to_image").value == 0.0
    with pytest.raises(ComponentError, match="3 values a row, not two"):
        stage.evaluate(group(a), group(torch.ones(50, 3, 8)), Cosine())
