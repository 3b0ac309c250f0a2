"""Generated text: against sacrebleu, rouge-score, NLTK, the usual CIDEr-D and loops over the definitions."""

from __future__ import annotations

import math
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch
from mmflow_evaluators.generation.answers import read_answers, yes_no_scores
from mmflow_evaluators.generation.bleu import bleu_counts, corpus_bleu
from mmflow_evaluators.generation.cider import cider_d
from mmflow_evaluators.generation.meteor import Alignment, align, meteor, porter
from mmflow_evaluators.generation.rouge import rouge
from mmflow_evaluators.generation.text_overlap import TextOverlap
from mmflow_evaluators.generation.words import words
from mmflow_evaluators.generation.yes_no import YesNoQuestions
from nltk.translate.meteor_score import single_meteor_score
from sklearn import metrics
from torchmetrics.functional.text import rouge_score as torchmetrics_rouge

from mmflow.plugin import ComponentError

TEXTS = [
    "a red circle on a table",
    "two dogs run in the park",
    "a man",
    "the quick brown fox jumps over the lazy dog",
    "circle circle circle red",
]
REFERENCES = [
    ["a red circle lies on the table", "a circle on a table"],
    ["two dogs are running in a park"],
    ["a man rides a horse", "the man on a horse in the field", "a man"],
    ["a quick brown fox jumped over a lazy dog", "the fox jumps"],
    ["a red circle", "one circle"],
]


def value(result: Any, name: str) -> Any:
    return next(metric for metric in result.metrics if metric.name == name)


def drawn(rng: np.random.Generator, count: int, longest: int = 9) -> list[str]:
    names = ["red", "circle", "circles", "running", "run", "the", "a", "on", "table", ","]
    return [" ".join(rng.choice(names, rng.integers(0, longest))) for _ in range(count)]


def test_bleu_is_that_of_sacrebleu_for_ragged_references_and_empty_texts():
    rng = np.random.default_rng(0)
    for case in range(20):
        texts = [*TEXTS, *drawn(rng, 6)]
        references = [*REFERENCES, *[drawn(rng, int(rng.integers(1, 4))) for _ in range(6)]]
        texts = [""] * len(texts) if case == 0 else texts
        longest = max(map(len, references))
        by_stream = [[group[k] if k < len(group) else None for group in references] for k in range(longest)]
        expected = sacrebleu.corpus_bleu(texts, by_stream).score
        assert corpus_bleu(bleu_counts(texts, references)) == pytest.approx(expected)
    with pytest.raises(ValueError, match="no reference"):
        bleu_counts(["a"], [[]])


def test_rouge_is_that_of_torchmetrics_with_stems():
    for kind in ("rouge1", "rouge2", "rougeL"):
        ours = rouge(TEXTS, REFERENCES, kind)
        theirs = [
            float(torchmetrics_rouge(t, [r], rouge_keys=kind, use_stemmer=True, accumulate="best")[f"{kind}_fmeasure"])
            for t, r in zip(TEXTS, REFERENCES, strict=True)
        ]
        assert ours == pytest.approx(np.array(theirs), abs=1e-6)
    assert rouge([""], [["a"]]).tolist() == [0.0]
    with pytest.raises(ValueError, match="no reference"):
        rouge(["a"], [[]])


def test_cider_d_is_that_of_the_usual_implementation():
    # Printed by pycocoevalcap 1.2 (its Python part, on words split at spaces) for these texts.
    expected = [4.6304127062848774, 2.1386807905805707, 2.7100838623438124, 2.2825973350675586, 0.7363085408886891]
    found = cider_d([t.split() for t in TEXTS], [[r.split() for r in group] for group in REFERENCES])
    assert found == pytest.approx(np.array(expected))


def test_cider_d_by_its_definition_and_at_its_ends():
    own, others = [words(t) for t in TEXTS], [[words(r) for r in group] for group in REFERENCES]

    def grams(text: list[str], n: int) -> list[tuple[str, ...]]:
        return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]

    def weights(text: list[str], n: int) -> dict[tuple[str, ...], float]:
        documents = lambda g: sum(any(g in grams(r, n) for r in group) for group in others)  # noqa: E731
        return {g: grams(text, n).count(g) * math.log(5 / max(1, documents(g))) for g in grams(text, n)}

    for i in range(5):
        total = 0.0
        for reference in others[i]:
            for n in range(1, 5):
                a, b = weights(own[i], n), weights(reference, n)
                size = math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
                same = sum(min(a[g], b[g]) * b[g] for g in a if g in b)
                gap = len(own[i]) - len(reference)
                total += same / size * math.exp(-gap * gap / 72) / 4 if size else 0.0
        assert cider_d(own, others)[i] == pytest.approx(10 * total / len(others[i]))
    assert cider_d([words(TEXTS[3])] * 2, [[words(TEXTS[3])], [["other"]]])[0] == pytest.approx(10.0)
    assert cider_d([["a", "b"]], [[["a", "b"]]]).tolist() == [0.0]
    assert cider_d([[]], [[["a"]]]).tolist() == [0.0]
    with pytest.raises(ValueError, match="no reference"):
        cider_d([["a"]], [[]])


class NoSynonyms:
    def synsets(self, word: str) -> list[Any]:
        return []


def test_meteor_is_that_of_nltk_where_the_alignment_is_unique():
    rng = np.random.default_rng(0)
    names = np.array(["red", "circle", "runs", "table", "blue", "square", "dogs", "park", "quickly", "horse"])
    forms = {"runs": "running", "dogs": "dog", "circle": "circles", "table": "tables"}
    for _ in range(200):
        text = list(rng.permutation(names)[: rng.integers(0, 9)])
        reference = [forms.get(w, w) if rng.random() < 0.4 else w for w in rng.permutation(names)[: rng.integers(1, 9)]]
        theirs = single_meteor_score(reference, text, wordnet=NoSynonyms())  # type: ignore[arg-type]
        assert meteor(text, reference) == pytest.approx(theirs)


def best_alignment(text: list[str], reference: list[str]) -> Alignment:
    """The best of all alignments, by trying each."""
    best = (0, 0, 0)
    size = len(text)
    for kept in product([False, True], repeat=size):
        rows = [i for i in range(size) if kept[i]]
        if len(rows) > len(reference):
            continue
        for chosen in permutations(range(len(reference)), len(rows)):
            pairs = list(zip(rows, chosen, strict=True))
            if any(porter(text[i]) != porter(reference[j]) for i, j in pairs):
                continue
            exact = sum(text[i] == reference[j] for i, j in pairs)
            chunks = sum((i - 1, j - 1) not in pairs for i, j in pairs)
            best = min(best, (-len(pairs), -exact, chunks))
    return Alignment(-best[0], -best[1], best[2])


def test_the_alignment_is_the_best_of_all_where_words_repeat():
    rng = np.random.default_rng(0)
    for _ in range(60):
        text, reference = (t.split() for t in drawn(rng, 2, 6))
        assert align(text, reference) == best_alignment(text, reference)
    assert align(["a", "b", "a", "b", "a"], ["b", "a", "b", "a", "a"]).chunks == 2
    assert meteor([], ["a"]) == meteor(["a"], []) == 0.0
    assert meteor(["a"] * 30, ["a"] * 30) == pytest.approx(1 - 0.5 / 30**3)


def test_answers_are_read_by_their_first_yes_or_no():
    texts = ["Yes.", "No, there is not", "well, yes", None, "maybe", "There is no dog", "Yesterday"]
    assert read_answers(texts) == [True, False, True, None, None, False, None]


def test_yes_no_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, said = rng.random(30) < 0.5, rng.random(30) < 0.6
        found = yes_no_scores(said.tolist(), truth)
        assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, said))
        assert found.precision == pytest.approx(metrics.precision_score(truth, said))
        assert found.recall == pytest.approx(metrics.recall_score(truth, said))
        assert found.f1 == pytest.approx(metrics.f1_score(truth, said))
        assert (found.yes, found.unread) == (pytest.approx(said.mean()), 0.0)
    unread = yes_no_scores([None, True], [False, True])
    assert (unread.accuracy, unread.unread, unread.yes) == (0.5, 0.5, 1.0)
    assert math.isnan(yes_no_scores([False], [False]).f1)
    with pytest.raises(ValueError, match="2 answers to 1"):
        yes_no_scores([True, False], [True])


def test_texts_are_measured_against_chance_and_gaps_are_said():
    texts = [*TEXTS * 8, None, "a text", ""]
    references = [*REFERENCES * 8, ["x y z"], None, ["something"]]
    stage = TextOverlap(
        data="test", generated="write.text", references=("caption",),
        metrics=("bleu", "rouge1", "rougeL", "meteor", "cider_d"),
    )  # fmt: skip
    found = stage.evaluate(texts, (references,))
    kept = [*TEXTS * 8, "", ""]
    others = [*REFERENCES * 8, ["x y z"], ["something"]]
    assert value(found, "bleu").value == pytest.approx(corpus_bleu(bleu_counts(kept, others)))
    for metric in found.metrics:
        assert metric.chance < metric.low < metric.value < metric.high
    assert found.notes == ["1 rows have no reference.", "2 of 42 generated texts are empty."]
    single = stage.evaluate(TEXTS, ([group[0] for group in REFERENCES], [None] * 5))
    assert value(single, "meteor").value > 0
    with pytest.raises(ComponentError, match="no row has a reference"):
        stage.evaluate(TEXTS, ([None] * 5,))


def test_a_model_that_says_yes_to_all_is_seen():
    labels = torch.arange(40) % 2
    stage = YesNoQuestions(data="test", answers="ask.text", labels="present")
    found = stage.evaluate(["yes"] * 40, labels)
    assert (value(found, "accuracy").value, value(found, "recall").value, value(found, "yes").value) == (0.5, 1.0, 1.0)
    assert value(found, "f1").value == pytest.approx(value(found, "f1").chance)
    silent = stage.evaluate(["hm"] * 40, labels)
    assert value(silent, "unread").value == 1.0
    assert value(silent, "accuracy").value == 0.0
    assert "yes: no question is answered." in silent.notes
    with pytest.raises(ComponentError, match="1 for yes"):
        stage.evaluate(["yes"] * 40, labels + 1)
