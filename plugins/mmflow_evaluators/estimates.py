"""How the evaluators state a measured number: with its interval, with what guessing gives, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from mmflow.plugin import ComponentError, EvaluationResult, Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from mmflow_evaluators.intervals import Interval

Better = Literal["higher", "lower", ""]


def estimate(
    name: str,
    value: float,
    interval: Interval | None = None,
    *,
    chance: float | None = None,
    better: Better = "higher",
    unit: str = "",
) -> Metric:
    """A metric with its 95 % interval; `better` is empty where neither direction is."""
    return Metric(name, float(value), chance, better, unit, None if interval is None else interval.half)


def bootstrapped(
    name: str,
    statistic: Callable[[NDArray[np.int64]], float],
    items: int,
    *,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    groups: ArrayLike | None = None,
    draws: int = 400,
    chance: float | None = None,
    better: Better = "higher",
    unit: str = "",
) -> Metric:
    """A metric whose interval is that of a bootstrap over its items, at the address of its name.

    `statistic` and the others are those of `intervals.bootstrap_interval`.
    """
    import numpy as np

    from mmflow_evaluators.intervals import bootstrap_interval

    value = statistic(np.arange(items))
    interval = bootstrap_interval(statistic, items, at=(name,), bounds=bounds, groups=groups, draws=draws)
    return estimate(name, value, interval, chance=chance, better=better, unit=unit)


def result(metrics: Sequence[Metric], notes: Sequence[str] = (), where: str = "") -> EvaluationResult:
    """What an evaluator gives. Raises `ComponentError` with the notes where there is nothing to give.

    `notes` tell, in a sentence each, what was not measured and why.
    """
    if not metrics:
        raise ComponentError(f"{where}: {'; '.join(notes) or 'nothing to measure'}")
    return EvaluationResult(list(metrics), figures=_noted(notes))


def of_encoder(encoder: str, name: str, several: bool) -> str:
    """`accuracy`, or `image_accuracy` where several encoders are measured."""
    return f"{encoder.replace('.', '_')}_{name}" if several else name


def _noted(notes: Sequence[str]) -> dict[str, dict[str, object]]:
    return {"Not measured": {"kind": "note", "note": " ".join(notes)}} if notes else {}
