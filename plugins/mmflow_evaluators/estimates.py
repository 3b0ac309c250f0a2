"""How the evaluators state a measured number: with its interval, with what guessing gives, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mmflow.plugin import ComponentError, EvaluationResult, ItemScores, Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from mmflow_evaluators.intervals import Interval

SEVERAL = 10
"""Rows of a class from which it is odd that it is never predicted."""

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Group:
    """The common ground of several metrics: `prefix` begins their names, `heading` stands above them."""

    prefix: str = ""
    heading: str = ""


def group_of(encoder: str, alone: bool) -> Group:
    """The group of an encoder's metrics: `image_accuracy` under `image`, or none where one encoder is measured."""
    return Group() if alone else Group(f"{encoder.replace('.', '_')}_", spoken(encoder))


def group_between(first: str, second: str, *, alone: bool = False, sign: str = "–") -> Group:
    """The group of two encoders' metrics: `image_text_linear_cka` under `image – text`."""
    if alone:
        return Group()
    joint = "_to_" if sign == "→" else "_"
    return Group(f"{first}{joint}{second}_".replace(".", "_"), f"{spoken(first)} {sign} {spoken(second)}")


def estimate(
    name: str,
    value: float,
    interval: Interval | None = None,
    *,
    title: str = "",
    group: Group = Group(),
    chance: float | None = None,
    better: Better = "higher",
    unit: str = "",
    items: ItemScores | None = None,
) -> Metric:
    """A metric with its 95 % interval; `better` is empty where neither direction is."""
    title = title or name.replace("_", " ")
    ends = {} if interval is None else {"spread": interval.half, "low": interval.low, "high": interval.high}
    name = f"{group.prefix}{name}"
    return Metric(name, float(value), chance, better, unit, title=title, group=group.heading, items=items, **ends)


def share(
    name: str,
    scores: NDArray[np.float64],
    rows: NDArray[np.int64] | Sequence[str],
    *,
    title: str = "",
    group: Group = Group(),
    chance: float | None = None,
    better: Better = "higher",
) -> Metric:
    """The mean of item scores [N] from 0 to 1, with their interval and, for comparisons, the scores themselves.

    `rows` [N] are the places (or ids) of the measured rows that the items belong to; items of one row are one sample.
    """
    import numpy as np

    from mmflow_evaluators.intervals import share_interval

    # Rounding may carry a full share past 1.
    values = np.clip(np.asarray(scores, dtype=np.float64), 0.0, 1.0)
    return estimate(
        name, values.mean(), share_interval(values, rows), title=title, group=group, chance=chance, better=better,
        items=ItemScores(values, rows),
    )  # fmt: skip


def mean_of(name: str, metrics: Sequence[Metric]) -> Metric:
    """The mean of metrics made by `share`, such as recalls in both directions: its interval is by row of the data.

    A row's score is the mean over the metrics of the sum of its items, as a part of the mean number of items a row.
    """
    import numpy as np

    from mmflow_evaluators.intervals import score_interval

    all_items = [metric.items for metric in metrics if metric.items is not None]
    rows = np.unique(np.concatenate([np.asarray(items.rows) for items in all_items]))
    scores = np.zeros(len(rows))
    for items in all_items:
        places = np.searchsorted(rows, np.asarray(items.rows))
        sums = np.bincount(places, weights=np.asarray(items.scores), minlength=len(rows))
        scores += sums * len(rows) / (len(places) * len(all_items))
    value = float(np.mean([metric.value for metric in metrics]))
    chance = float(np.mean([metric.chance or 0.0 for metric in metrics]))
    error = float(scores.std(ddof=1)) / len(rows) ** 0.5 if len(rows) > 1 else None
    interval = score_interval(value, error, len(rows))
    return estimate(name, value, interval, chance=chance, items=ItemScores(scores, rows))


def bootstrapped(
    name: str,
    statistic: Callable[[NDArray[np.int64]], float],
    items: int,
    *,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    groups: ArrayLike | None = None,
    draws: int = 400,
    title: str = "",
    group: Group = Group(),
    chance: float | None = None,
    better: Better = "higher",
    unit: str = "",
    items_of: ItemScores | None = None,
) -> Metric:
    """A metric whose interval is that of a bootstrap over its items, at the address of its name.

    `statistic` and the others are those of `intervals.bootstrap_interval`; `items_of` has the scores of the items where
    the statistic is their mean.
    """
    import numpy as np

    from mmflow_evaluators.intervals import bootstrap_interval

    value = statistic(np.arange(items))
    interval = bootstrap_interval(statistic, items, at=(name,), bounds=bounds, groups=groups, draws=draws)
    return estimate(
        name, value, interval, title=title, group=group, chance=chance, better=better, unit=unit, items=items_of
    )


def accuracy(
    encoder: str,
    hits: NDArray[np.float64],
    rows: NDArray[np.int64] | Sequence[str],
    learned: NDArray[np.int64],
    truth: NDArray[np.int64],
    *,
    alone: bool,
) -> Metric:
    """Share of right answers, `hits` [N] from 0 to 1 of `rows` [N]; chance is the share in `truth` of the most frequent
    class of `learned`.

    The metric is `accuracy` where one encoder is probed, `image_accuracy` in the group `image` where several are.
    """
    import numpy as np

    chance = float((truth == np.bincount(learned).argmax()).mean())
    return share("accuracy", hits, rows, group=group_of(encoder, alone), chance=chance)


def never_predicted(
    predicted: NDArray[np.int64], truth: NDArray[np.int64], names: Sequence[str] = (), where: str = ""
) -> list[str]:
    """A remark about classes [N] that are never predicted though several rows have them; nothing where there are none.

    With one class predicted for all rows, that one is named.
    """
    import numpy as np

    counts, found = np.bincount(truth), np.unique(predicted)
    missed = [c for c in np.flatnonzero(counts >= SEVERAL).tolist() if c not in found]
    if not missed:
        return []
    say = lambda c: names[c] if c < len(names) else str(c)  # noqa: E731
    if len(found) == 1:
        return [f"{where}every one of the {len(truth):,} rows is given the class {say(int(found[0]))}"]
    shown = ", ".join(f"{say(c)} ({counts[c]} rows)" for c in missed[:5]) + (", ..." if len(missed) > 5 else "")
    return [f"{where}{len(missed)} of {(counts > 0).sum()} classes are never predicted: {shown}"]


def result(metrics: Sequence[Metric], notes: Sequence[str] = (), where: str = "") -> EvaluationResult:
    """The result of an evaluator. Raises `ComponentError` with the notes where there is nothing to give.

    `notes` tell, in a sentence each, what was not measured and why.
    """
    if not metrics:
        raise ComponentError(f"{where}: {'; '.join(notes) or 'nothing to measure'}")
    return EvaluationResult(list(metrics), notes=list(dict.fromkeys(notes)))


def spoken(reference: str) -> str:
    """A reference in words, for titles: `image.late_tokens` as `image late tokens`."""
    return reference.replace(".", " ").replace("_", " ")
