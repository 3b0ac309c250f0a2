"""The same items and the same seeds of several runs, in the same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


class Items(NamedTuple):
    """Item scores float64 [N] of a run, with the id of the sample that each belongs to."""

    origin: str
    """The run, for messages."""
    ids: Sequence[str]
    scores: NDArray[np.float64]


class OtherItems(ValueError):
    """Runs were measured on other items and cannot be paired."""


def aligned(runs: Sequence[Items]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores [runs, items] with the same item in each column, and the number of the sample that each belongs to.

    Items are paired by the ids of their samples; several of one sample in their order. Raises `OtherItems`.
    """
    import numpy as np

    rows, samples, first = [], np.zeros(0, np.int64), runs[0]
    numbers = {id: number for number, id in enumerate(dict.fromkeys(first.ids))}
    for run in runs:
        own = np.array([numbers.get(id, -1) for id in run.ids], np.int64)
        order = np.argsort(own, kind="stable")
        if run is first:
            samples = own[order]
        elif not np.array_equal(own[order], samples):
            raise OtherItems(_unlike(first, run))
        rows.append(np.asarray(run.scores, dtype=np.float64)[order])
    return np.stack(rows), samples


def _unlike(first: Items, other: Items) -> str:
    a, b = set(first.ids), set(other.ids)
    said = f"{first.origin} was measured on {len(first.ids):,} items and {other.origin} on {len(other.ids):,}"
    if a == b:
        return f"{said} of the same {len(a):,} samples"
    return f"{said}, {len(a & b):,} samples are common to both"


def paired_seeds(a: Mapping[int, T], b: Mapping[int, T]) -> tuple[list[T], list[T]]:
    """The values of the seeds that both have; where they have none in common, as many as both have, in order: seeds
    that have nothing to do with each other can be paired as they come."""
    common = [seed for seed in a if seed in b]
    if common:
        return [a[seed] for seed in common], [b[seed] for seed in common]
    count = min(len(a), len(b))
    return list(a.values())[:count], list(b.values())[:count]
