"""ROUGE: n-grams and the longest common subsequence of words (Lin, 2004)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rouge(
    generated: Sequence[str], references: Sequence[Sequence[str]], kind: str = "rougeL", *, stems: bool = True
) -> NDArray[np.float64]:
    """F1 [N] of rouge-score's `kind` (`rouge1`, `rouge2`, `rougeL`), the highest over a text's references."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([kind], use_stemmer=stems)
    found = []
    for text, others in zip(generated, references, strict=True):
        if not others:
            raise ValueError("a generated text has no reference")
        found.append(max(scorer.score(other, text)[kind].fmeasure for other in others))
    return np.array(found, dtype=np.float64)
