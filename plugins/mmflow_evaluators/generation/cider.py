"""CIDEr-D: agreement with references in the n-grams that tell texts apart (Vedantam et al., 2015)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmflow_evaluators.generation.words import ngrams

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORDER = 4
SIGMA = 6.0

_Vector = dict[tuple[str, ...], float]


def cider_d(generated: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> NDArray[np.float64]:
    """CIDEr-D [N] of texts given as words, from 0 to 10.

    `references[i]` are those of text i, at least one. An n-gram weighs log(N / texts whose references have it), at
    most log N: scores depend on the whole set of references, and are all 0 for N = 1. Matches are clipped at the
    reference's weight, and a difference in the number of word pairs of d costs exp(-d^2 / 72), as in the usual
    implementation.
    """
    frequency: Counter[tuple[str, ...]] = Counter()
    for others in references:
        if not others:
            raise ValueError("a generated text has no reference")
        frequency.update({gram for text in others for n in range(1, ORDER + 1) for gram in ngrams(text, n)})
    most = math.log(len(references)) if references else 0.0
    scores = []
    for own, others in zip(generated, references, strict=True):
        mine = _vectors(own, frequency, most)
        total = 0.0
        for text in others:
            difference = max(0, len(own) - 1) - max(0, len(text) - 1)
            penalty = math.exp(-(difference**2) / (2 * SIGMA**2))
            theirs = _vectors(text, frequency, most)
            total += penalty * sum(_similarity(a, b) for a, b in zip(mine, theirs, strict=True)) / ORDER
        scores.append(10 * total / len(others))
    return np.array(scores, dtype=np.float64)


def _vectors(text: Sequence[str], frequency: Counter[tuple[str, ...]], most: float) -> list[_Vector]:
    return [
        {gram: count * (most - math.log(max(1, frequency[gram]))) for gram, count in ngrams(text, n).items()}
        for n in range(1, ORDER + 1)
    ]


def _similarity(own: _Vector, other: _Vector) -> float:
    """Cosine of two vectors whose product is clipped at the other's weights."""
    product = sum(min(weight, other[gram]) * other[gram] for gram, weight in own.items() if gram in other)
    lengths = (math.sqrt(sum(w * w for w in own.values())), math.sqrt(sum(w * w for w in other.values())))
    return product / (lengths[0] * lengths[1]) if lengths[0] > 0 and lengths[1] > 0 else 0.0
