"""Generated texts beside references."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, EvaluationResult, Evaluator, ItemScores, Metric, RawField, Ref, Refs, default
from mmflow_evaluators.reading import TEXT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Measure = Literal["bleu", "rouge1", "rouge2", "rougeL", "meteor", "cider_d"]
TITLES: dict[str, str] = {
    "bleu": "BLEU", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "meteor": "METEOR (exact, stem)",
    "cider_d": "CIDEr-D",
}  # fmt: skip


class TextOverlap(Evaluator, name="text_overlap"):
    """BLEU, ROUGE, METEOR and CIDEr-D of generated texts with one or several references a row.

    `generated` names the field or column with the texts, `references` the fields with what people wrote, which may hold
    a list a row. BLEU (0 to 100) is sacrebleu's, of the corpus; ROUGE is the F1 of rouge-score with stems, METEOR that
    of exact and stem matches, each the best over the references; CIDEr-D (0 to 10) weighs n-grams by all references of
    the data. Chance is that of the same texts in another order. Rows without a text count as empty texts, rows without
    a reference are left out; both are said. Intervals are those of a bootstrap over rows.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"generated": TEXT, "references": TEXT}
    example: ClassVar[str] = "{use: text_overlap, data: test, generated: write.text, references: [caption]}"
    extra: ClassVar[str] = "metrics"
    requires: ClassVar[tuple[str, ...]] = ("sacrebleu", "rouge_score", "nltk")

    generated: Ref[RawField] = default(..., description="the texts to measure")
    references: Refs[RawField] = Field(min_length=1, description="what people wrote")
    metrics: tuple[Measure, ...] = Field(("bleu", "rougeL", "meteor", "cider_d"), min_length=1)
    tokenize: Literal["13a", "intl", "char", "none"] = default("13a", description="sacrebleu's, for BLEU")

    def evaluate(self, generated: Any, references: tuple[Any, ...]) -> EvaluationResult:
        from mmflow.plugin import numpy_generator
        from mmflow_evaluators.estimates import bootstrapped, result

        texts, others, rows, notes = _rows(generated, references)
        order = numpy_generator("mmflow_evaluators.text_overlap").permutation(len(texts))
        metrics: list[Metric] = []
        for name in self.metrics:
            statistic, top, values = self._statistic(name, texts, others)
            by_chance, *_ = self._statistic(name, [texts[i] for i in order], others)
            everything = _all(len(texts))
            bounds = (0.0, top)
            metrics.append(
                bootstrapped(
                    name.lower(), statistic, len(texts), title=TITLES[name], bounds=bounds,
                    chance=by_chance(everything), items_of=None if values is None else ItemScores(values, rows),
                )
            )  # fmt: skip
        return result(metrics, notes)

    def _statistic(
        self, name: str, texts: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[Callable[[NDArray[np.int64]], float], float, NDArray[np.float64] | None]:
        """A measure of the rows at an index, its highest value, and one value a row where it is their mean."""
        import numpy as np

        from mmflow_evaluators.generation.bleu import bleu_counts, corpus_bleu
        from mmflow_evaluators.generation.cider import cider_d
        from mmflow_evaluators.generation.meteor import meteor
        from mmflow_evaluators.generation.rouge import rouge
        from mmflow_evaluators.generation.words import words

        if name == "bleu":
            counts = bleu_counts(texts, references, self.tokenize)
            return (lambda index: corpus_bleu(counts[index])), 100.0, None
        if name.startswith("rouge"):
            values, top = rouge(texts, references, name), 1.0
        else:
            own, others = [words(t) for t in texts], [[words(r) for r in group] for group in references]
            if name == "meteor":
                best = [max(meteor(t, r) for r in group) for t, group in zip(own, others, strict=True)]
                values, top = np.array(best), 1.0
            else:
                values, top = cider_d(own, others), 10.0
        return (lambda index: float(values[index].mean())), top, values


def _all(count: int) -> NDArray[np.int64]:
    import numpy as np

    return np.arange(count)


def _rows(generated: Any, references: tuple[Any, ...]) -> tuple[list[str], list[list[str]], list[int], list[str]]:
    """Texts and their references of the rows that have one, the places of these, and what is to be said."""
    texts, others, rows, notes = [], [], [], []
    columns = [list(column) for column in references]
    for place, (text, *found) in enumerate(zip(list(generated), *columns, strict=True)):
        several = [r for value in found for r in (value if isinstance(value, (list, tuple)) else [value])]
        known = [r for r in several if isinstance(r, str)]
        if known:
            texts.append(text if isinstance(text, str) else "")
            others.append(known)
            rows.append(place)
    if not texts:
        raise ComponentError("text_overlap: no row has a reference")
    if (left := len(list(generated)) - len(texts)) > 0:
        notes.append(f"{left} rows have no reference.")
    if empty := sum(not text.strip() for text in texts):
        notes.append(f"{empty} of {len(texts)} generated texts are empty.")
    return texts, others, rows, notes
