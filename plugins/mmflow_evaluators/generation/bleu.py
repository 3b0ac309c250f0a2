"""BLEU of a corpus, by the counts of its sentences, so that it can be resampled by sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmflow_evaluators.generation.words import ngrams

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORDER = 4


def bleu_counts(
    generated: Sequence[str], references: Sequence[Sequence[str]], tokenize: str = "13a"
) -> NDArray[np.int64]:
    """For each text [N, 10]: its length, that of the closest reference (of equally close ones the shorter), matched
    n-grams and n-grams for n = 1..4.

    `references[i]` are those of text i, at least one; their counts clip matches. Tokens are those of sacrebleu's
    `tokenize` (`13a`, `intl`, `char`, `none`).
    """
    from sacrebleu.metrics.bleu import BLEU

    split = BLEU(tokenize=tokenize, effective_order=True).tokenizer
    rows = []
    for text, others in zip(generated, references, strict=True):
        if not others:
            raise ValueError("a generated text has no reference")
        own, theirs = split(text.rstrip()).split(), [split(other.rstrip()).split() for other in others]
        length = min((abs(len(t) - len(own)), len(t)) for t in theirs)[1]
        row = [len(own), length]
        for n in range(1, ORDER + 1):
            found = ngrams(own, n)
            most: Counter[tuple[str, ...]] = Counter()
            for tokens in theirs:
                most |= ngrams(tokens, n)
            row += [sum((found & most).values()), max(0, len(own) - n + 1)]
        rows.append(row)
    return np.array(rows, dtype=np.int64).reshape(len(rows), 2 + 2 * ORDER)


def corpus_bleu(counts: NDArray[np.int64]) -> float:
    """BLEU from 0 to 100 (Papineni et al., 2002), orders without a match smoothed as in sacrebleu (`exp`)."""
    from sacrebleu.metrics.bleu import BLEU

    total = counts.sum(0)
    correct, possible = total[2::2].tolist(), total[3::2].tolist()
    found = BLEU.compute_bleu(correct, possible, int(total[0]), int(total[1]), smooth_method="exp")
    return float(found.score)
