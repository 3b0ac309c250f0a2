"""Words of a text, as the measures of generated text count them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|\d+(?:[.,]\d+)+", re.UNICODE)


def words(text: str) -> list[str]:
    """Lower-case words without punctuation, as in caption benchmarks (their Java tokenizer splits "don't", this does
    not)."""
    return WORD.findall(text.lower())


def ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """How often each run of `n` tokens occurs."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
