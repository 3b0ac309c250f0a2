from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from mmflow_evaluators.zero_shot import ZeroShot

from mmflow.plugin import ComponentError, Encoding, Score, Tokens

NAMES = ("cat", "dog", "bird")


class Texts:
    """Encodes a text as counts of its letters, and knows the names of three classes."""

    asked: list[str]

    def __init__(self, names: Sequence[str] = NAMES, *, tokens: bool = False) -> None:
        self.asked, self._names, self._tokens = [], tuple(names), tokens

    def encode(self, encoder: str, values: Sequence[str]) -> Encoding:
        self.asked += values
        letters = [[float(value.count(chr(97 + i))) for i in range(26)] for value in values]
        if self._tokens:
            tokens = torch.tensor(letters)[:, None]
            return Encoding({"tokens": Tokens(tokens, torch.ones(len(values), 1, dtype=torch.bool))})
        return Encoding({"pooled": torch.tensor(letters)})

    def names(self, field: str) -> tuple[str, ...]:
        assert field == "labels"
        return self._names


def run(rows: Encoding, labels: Any, score: Any, model: Any = None, **fields: Any) -> Any:
    evaluator = ZeroShot(data="test", of=("image", "text"), labels="label", score=score, **fields)
    return evaluator.evaluate(rows, rows, labels=torch.as_tensor(labels), score=score, model=model or Texts())


def test_accuracy_is_that_of_a_computation_by_hand(dot):
    torch.manual_seed(0)
    rows = torch.rand(50, 26)
    labels = torch.randint(0, 3, (50,))
    prompts = ("a {}", "the big {} there")
    measured = run(Encoding({"pooled": rows}), labels, dot, prompts=prompts, at=(1, 2))
    classes = []
    for name in NAMES:
        vectors = [
            torch.nn.functional.normalize(Texts().encode("text", [p.format(name)]).pooled, dim=1)[0] for p in prompts
        ]
        classes.append(sum(vectors) / len(vectors))
    order = (rows @ torch.stack(classes).T).argsort(1, descending=True)
    got = {m.name: m for m in measured.metrics}
    assert got["top1_accuracy"].value == pytest.approx(float((order[:, 0] == labels).double().mean()))
    assert got["top2_accuracy"].value == pytest.approx(float((order[:, :2] == labels[:, None]).any(1).double().mean()))
    assert (got["top1_accuracy"].chance, got["top2_accuracy"].chance) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    matrix = torch.tensor(measured.figures["Confusion"]["values"])
    for true in range(3):
        for predicted in range(3):
            assert matrix[true, predicted] == ((labels == true) & (order[:, 0] == predicted)).sum()


def test_accuracy_by_class_leaves_out_classes_without_rows(dot):
    vectors = Texts().encode("", ["cat", "cat", "dog", "cat"]).pooled
    measured = run(Encoding({"pooled": vectors}), [0, 0, 1, 1], dot)
    figure = measured.figures["Accuracy by class"]
    assert figure["labels"] == ["dog", "cat"]
    assert figure["values"] == [0.5, 1.0]
    assert figure["counts"] == [2, 2]
    got = {m.name: m.value for m in measured.metrics}
    assert got["top1_accuracy"] == 0.75
    assert got["mean_class_accuracy"] == 0.75


def test_equal_scores_for_all_classes_are_exactly_at_chance(dot):
    measured = run(Encoding({"pooled": torch.zeros(9, 26)}), [0, 1, 2] * 3, dot, at=(1, 2))
    for metric in measured.metrics:
        assert metric.value == pytest.approx(metric.chance)


def test_rows_without_a_label_or_a_value_do_not_count(dot):
    vectors = Texts().encode("", ["cat", "dog", "dog"]).pooled
    present = torch.tensor([True, True, False])
    measured = run(Encoding({"pooled": vectors}, ("sample",), present), [0, -1, 0], dot)
    assert measured.metrics[0].value == 1.0
    with pytest.raises(ComponentError, match="no row"):
        run(Encoding({"pooled": vectors}), [-1, -1, -1], dot)


def test_names_may_be_given(dot):
    vectors = Texts().encode("", ["horse", "cow"]).pooled
    measured = run(Encoding({"pooled": vectors}), [0, 1], dot, Texts(()), names=("horse", "cow"))
    assert measured.metrics[0].value == 1.0
    with pytest.raises(ComponentError, match="names of at least two classes"):
        run(Encoding({"pooled": vectors}), [0, 1], dot, Texts(()))
    with pytest.raises(ComponentError, match="1 row of classes up to number 2, and there are 2 names"):
        run(Encoding({"pooled": vectors}), [0, 2], dot, names=("horse", "cow"))


def test_names_with_braces_are_taken_as_they_are(dot):
    texts = Texts(("{0}", "{}", "50% {x}"))
    run(Encoding({"pooled": torch.rand(3, 26)}), [0, 1, 2], dot, texts, prompts=("see {}!",))
    assert texts.asked == ["see {0}!", "see {}!", "see 50% {x}!"]


def test_a_score_of_tokens_is_averaged_over_prompts():
    class MaxSim(Score, name="maxsim_of_tests"):
        needs = ("tokens",)

        def blocks(self, a: Encoding, b: Encoding) -> Any:
            return torch.einsum("ild,jmd->ijlm", a.tokens.values, b.tokens.values).amax(3).sum(2)

    texts = Texts(tokens=True)
    measured = run(texts.encode("", ["dog", "cat"]), [1, 0], MaxSim(), texts, prompts=("a {}", "one {}"))
    assert measured.metrics[0].value == 1.0


def test_prompts_need_one_place(dot):
    for prompts in (("a photo",), ("{} and {}",)):
        with pytest.raises(ValueError, match="exactly once"):
            ZeroShot(data="test", of=("image", "text"), labels="label", prompts=prompts, score=dot)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2), (0, 1, 2)])
def test_names_of_the_data_in_any_order_measure_the_same(dot, order):
    torch.manual_seed(1)
    rows, labels = Encoding({"pooled": torch.rand(30, 26)}), torch.randint(0, 3, (30,))
    plain = run(rows, labels, dot)
    named = run(rows, labels, dot, names=tuple(NAMES[place] for place in order))
    assert [metric.value for metric in named.metrics] == [metric.value for metric in plain.metrics]


@pytest.mark.parametrize("names", [("dog", "cat"), ("fish", "cat", "bird"), ("bird", "dog", "cat", "fish")])
def test_a_class_of_the_data_at_another_number_is_refused(dot, names):
    with pytest.raises(ComponentError, match=r"is number \d in the data and \d in `names`"):
        run(Encoding({"pooled": torch.rand(4, 26)}), torch.tensor([0, 1, 0, 1]), dot, names=names)


def test_names_of_ones_own_stand_in_the_order_of_the_numbers(dot):
    rows, labels = Encoding({"pooled": torch.eye(26)[[0, 3, 1]]}), torch.tensor([0, 1, 2])
    texts = Texts()
    run(rows, labels, dot, model=texts, names=("a", "d", "b"))
    assert texts.asked == ["a", "d", "b"]
