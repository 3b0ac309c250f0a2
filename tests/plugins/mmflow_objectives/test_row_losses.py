"""Losses of a prediction against its target: loops, padding, counted places."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_objectives.prediction.caption_nll import CaptionNLL
from mmflow_objectives.prediction.cross_entropy import CrossEntropy
from mmflow_objectives.prediction.mse import MeanSquaredError

from mmflow.plugin import ComponentError, Tokens


def made(lengths: list[int], vocabulary: int, seed: int, padding: int = 0) -> tuple[Tokens, Tokens]:
    """Logits and ids of texts, with `padding` places more than the longest has."""
    generator = torch.Generator().manual_seed(seed)
    places = max(lengths) + padding
    mask = torch.arange(places)[None] < torch.tensor(lengths)[:, None]
    logits = torch.randn(len(lengths), max(lengths), vocabulary, generator=generator, dtype=torch.float64)
    ids = torch.randint(1, vocabulary, (len(lengths), max(lengths)), generator=generator)
    more = torch.full((len(lengths), padding, vocabulary), 9.0, dtype=torch.float64)
    none = torch.zeros(len(lengths), padding, dtype=torch.int64)
    return Tokens(torch.cat([logits, more], 1), mask), Tokens(torch.cat([ids, none], 1) * mask, mask)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2), st.integers(0, 3), st.integers(0, 99))
def test_caption_nll_is_the_loop_over_next_tokens(lengths: list[int], shift: int, padding: int, seed: int) -> None:
    logits, ids = made(lengths, 7, seed, padding)
    values, weights = CaptionNLL(of="next.logits", targets="text.ids", shift=shift).compute(logits, ids)  # type: ignore[arg-type]
    total, tokens = 0.0, 0
    for row, length in enumerate(lengths):
        for place in range(length - shift):
            probabilities = logits.values[row, place].softmax(0)
            total -= float(probabilities[ids.values[row, place + shift]].log())
            tokens += 1
    assert weights.tolist() == [max(0, length - shift) for length in lengths]
    assert float((values * weights).sum()) == pytest.approx(total, rel=1e-9, abs=1e-9)
    assert float(weights.sum()) == tokens


def test_caption_nll_sends_no_gradient_to_padding_and_last_places() -> None:
    logits, ids = made([4, 2], 6, 0, padding=2)
    x = logits.values.clone().requires_grad_()
    values, weights = CaptionNLL(of="next.logits", targets="text.ids").compute(Tokens(x, logits.mask), ids)  # type: ignore[arg-type]
    (values * weights).sum().backward()
    assert x.grad is not None
    touched = x.grad.abs().sum(-1) > 0
    assert touched.tolist() == [[True] * 3 + [False] * 3, [True] + [False] * 5]


def test_caption_nll_counts_places_with_logits_and_targets() -> None:
    """A decoder may read fewer ids than the targets hold: places without logits count nowhere."""
    logits, ids = made([4, 4], 6, 5)
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    _, weights = CaptionNLL(of="next.logits", targets="text.ids").compute(Tokens(logits.values, mask), ids)  # type: ignore[arg-type]
    assert weights.tolist() == [2, 3]


def test_caption_nll_of_an_empty_text_weighs_nothing_and_is_finite() -> None:
    logits, ids = made([1, 3], 6, 1)
    x = logits.values.clone().requires_grad_()
    values, weights = CaptionNLL(of="next.logits", targets="text.ids").compute(Tokens(x, logits.mask), ids)  # type: ignore[arg-type]
    (values * weights).sum().backward()
    assert weights.tolist() == [0, 2]
    assert values[0].item() == 0
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_caption_nll_says_how_to_mend_raw_targets() -> None:
    logits, _ = made([3], 6, 2)
    with pytest.raises(ComponentError) as error:
        CaptionNLL(of="next.logits", targets="caption").compute(logits, ["a red circle"])  # type: ignore[arg-type]
    assert "text.ids" in error.value.hint


def test_cross_entropy_leaves_unknown_labels_out() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    values, weights = CrossEntropy(of="z", labels="label").compute(logits, torch.tensor([2, -1, 0, 1]))  # type: ignore[arg-type]
    expected = [-float(logits[i].softmax(0)[k].log()) for i, k in ((0, 2), (2, 0), (3, 1))]
    assert weights.tolist() == [1, 0, 1, 1]
    assert values[[0, 2, 3]].tolist() == pytest.approx(expected)


def test_cross_entropy_takes_a_distribution_and_smoothing() -> None:
    logits = torch.randn(2, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    soft = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0, 1.0]], dtype=torch.float64)
    found = CrossEntropy(of="z", labels="label").compute(logits, soft)  # type: ignore[arg-type]
    torch.testing.assert_close(found, -(soft * logits.log_softmax(1)).sum(1))
    smooth, _ = CrossEntropy(of="z", labels="label", smoothing=0.2).compute(logits, torch.tensor([1, 3]))  # type: ignore[arg-type]
    target = torch.nn.functional.one_hot(torch.tensor([1, 3]), 4) * 0.8 + 0.05
    torch.testing.assert_close(smooth, -(target * logits.log_softmax(1)).sum(1))


def test_cross_entropy_names_shapes_that_do_not_fit() -> None:
    with pytest.raises(ComponentError, match="one label a row"):
        CrossEntropy(of="z", labels="label").compute(torch.zeros(3, 4), torch.zeros(3, 2, dtype=torch.int64))  # type: ignore[arg-type]
    with pytest.raises(ComponentError, match="a logit for every class"):
        CrossEntropy(of="z", labels="label").compute(torch.zeros(3, 4), torch.full((3, 6), 1 / 6))  # type: ignore[arg-type]


def test_a_label_beyond_the_logits_is_named() -> None:
    with pytest.raises(ComponentError, match="logits of 4 classes") as error:
        CrossEntropy(of="z", labels="label").compute(torch.zeros(3, 4), torch.tensor([0, 7, 1]))  # type: ignore[arg-type]
    assert "8 classes" in error.value.hint


def test_mse_is_the_mean_over_a_row() -> None:
    loss = MeanSquaredError(of=("a", "b"))  # type: ignore[arg-type]
    found = loss.compute(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0]]))
    assert found.tolist() == [2.0, 2.0]
    with pytest.raises(ComponentError, match="one shape"):
        loss.compute(torch.zeros(2, 3), torch.zeros(2, 1))
