"""METEOR of exact and stem matches (Banerjee and Lavie, 2005), without synonyms and paraphrases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5
"""Weight of precision's share, exponent and weight of the penalty, as published."""
BEAM = 64
"""Alignments kept while the words of a text are aligned from left to right."""


@dataclass(frozen=True)
class Alignment:
    """How many words of the text are matched, how many of these exactly, and in how many runs."""

    matches: int
    exact: int
    chunks: int


def meteor(generated: Sequence[str], reference: Sequence[str]) -> float:
    """METEOR of a text with a reference, both as words: from 0 to just below 1 (a text with itself has one chunk).

    F = P R / (0.9 P + 0.1 R), less the share 0.5 (chunks / matches)^3. Of several references the caller takes the
    highest. An empty text or reference gives 0.
    """
    found = align(generated, reference)
    if not found.matches:
        return 0.0
    precision, recall = found.matches / len(generated), found.matches / len(reference)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    return mean * (1 - GAMMA * (found.chunks / found.matches) ** BETA)


def align(generated: Sequence[str], reference: Sequence[str], stem: Callable[[str], str] | None = None) -> Alignment:
    """The alignment with most matches, of these most exact ones, of these fewest runs of neighboring words.

    A word matches one word at most, itself or one with its stem (Porter's by default). Found by beam search: exact
    but for texts that repeat many words.
    """
    stem = stem or porter
    stems, others = [stem(word) for word in generated], [stem(word) for word in reference]
    # Used places of the reference, the one matched last (-2 after a gap), and -matches, -exact, chunks.
    states: dict[tuple[frozenset[int], int], tuple[int, int, int]] = {(frozenset(), -2): (0, 0, 0)}
    for word, own in zip(generated, stems, strict=True):
        following: dict[tuple[frozenset[int], int], tuple[int, int, int]] = {}
        places = [place for place, other in enumerate(others) if own == other or word == reference[place]]
        for (used, last), (matches, exact, chunks) in states.items():
            options = [((used, -2), (matches, exact, chunks))]
            for place in places:
                if place not in used:
                    cost = (matches - 1, exact - (word == reference[place]), chunks + (place != last + 1))
                    options.append(((used | {place}, place), cost))
            for state, cost in options:
                if state not in following or cost < following[state]:
                    following[state] = cost
        if len(following) > BEAM:
            ranked = sorted(following.items(), key=lambda item: (item[1], sorted(item[0][0]), item[0][1]))
            following = dict(ranked[:BEAM])
        states = following
    matches, exact, chunks = min(states.values())
    return Alignment(-matches, -exact, chunks)


@cache
def _stemmer() -> Callable[[str], str]:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer().stem


@cache
def porter(word: str) -> str:
    """The stem of a lower-case English word (Porter, 1980, with NLTK's extensions)."""
    return _stemmer()(word)
