"""Yes and no as answers: the probe of hallucination (Li et al., 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmflow_evaluators.generation.words import words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

YES, NO = frozenset({"yes", "true", "y"}), frozenset({"no", "false", "n", "not"})


def read_answers(texts: Sequence[str | None]) -> list[bool | None]:
    """Yes or no by the first word of a text that is either; None where there is none."""
    found: list[bool | None] = []
    for text in texts:
        said = next((word for word in words(text or "") if word in YES or word in NO), None)
        found.append(None if said is None else said in YES)
    return found


@dataclass(frozen=True)
class YesNo:
    """Accuracy over all questions (unread answers are wrong), precision, recall and F1 of yes, the share of yes among
    the answers read, and the share that could not be read. NaN where there is nothing to divide by."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes: float
    unread: float


def yes_no_scores(answers: Sequence[bool | None], truth: ArrayLike) -> YesNo:
    """`truth` [N], 1 or True for yes."""
    wanted = np.asarray(truth, dtype=bool)
    if len(wanted) != len(answers):
        raise ValueError(f"{len(answers)} answers to {len(wanted)} questions")
    said = np.array([answer is True for answer in answers], dtype=bool)
    read = np.array([answer is not None for answer in answers], dtype=bool)
    right = float((said & wanted).sum())
    precision, recall = _ratio(right, float(said.sum())), _ratio(right, float(wanted.sum()))
    f1 = _ratio(2 * right, float(said.sum() + wanted.sum()))
    accuracy = _ratio(float((read & (said == wanted)).sum()), len(wanted))
    yes = _ratio(float(said.sum()), float(read.sum()))
    return YesNo(accuracy, precision, recall, f1, yes, _ratio(float((~read).sum()), len(wanted)))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
