"""Methods beside each other: each metric of each, seeds together, paired with a baseline over items and seeds.

The same table stands in the report of a matrix and comes from `mmflow compare`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from mmflow.artifacts import StoredItems
from mmflow.flow.report.collect import RunReport, StageReport
from mmflow.flow.report.pairing import Items, OtherItems, aligned, paired_seeds
from mmflow.plugin.values import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmflow.evaluate.comparison import Comparison

CANNOT_TELL = "cannot be told"
NO_DIFFERENCE = "no difference"
BASELINE = "baseline"


@dataclass(frozen=True)
class Entry:
    """A run of a method: entries of one method differ in nothing but their seed."""

    method: str
    seed: int
    report: RunReport
    origin: str
    """The run, or the member of a run, for messages."""


@dataclass(frozen=True)
class Compared:
    """A metric of a method."""

    group: str
    """The method: the name of the members of a matrix without their seed, or of the runs."""
    values: tuple[float, ...]
    """One a seed."""
    better: str = "higher"
    mean_interval: tuple[float, float] | None = None
    """95 % interval of the mean; of several seeds over other seeds and items."""
    items: int = 0
    """Items that the difference is paired over; 0 where it is paired over seeds alone."""
    difference: float | None = None
    """From the baseline, the mean over the seeds and items that both have; None for the baseline itself."""
    interval: tuple[float, float] | None = None
    """Where the true difference lies (95 % for all methods together, by Holm's correction)."""
    p: float | None = None
    """Of no difference, corrected for the number of methods; None where it cannot be told."""
    baseline: bool = False

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def real(self) -> bool:
        return self.p is not None and self.p <= 0.05

    @property
    def verdict(self) -> str:
        """In words: better, worse, no difference (or higher, lower where neither is better), cannot be told."""
        if self.baseline:
            return BASELINE
        if self.difference is None or self.p is None:
            return CANNOT_TELL
        if not self.real:
            return NO_DIFFERENCE
        up = self.difference > 0
        if not self.better:
            return "higher" if up else "lower"
        return "better" if up == (self.better == "higher") else "worse"


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of an evaluation over all methods."""

    stage: str
    metric: Metric
    """As the first entry has it: its titles, its chance and its better direction."""
    groups: list[Compared]
    notes: list[str] = field(default_factory=list)
    """Why something could not be told."""

    @property
    def heading(self) -> str:
        return f"{self.stage}: {self.metric.label}" + (" (lower is better)" * (self.metric.better == "lower"))


def compared(entries: Sequence[Entry], baseline: str = "") -> list[ComparedMetric]:
    """Every metric that an entry has measured, in the order in which they come; differences from the method `baseline`,
    by default the first one, and where that has not measured a metric, from the first that has."""
    stages: dict[str, list[tuple[Entry, StageReport]]] = {}
    for entry in entries:
        for stage in entry.report.stages:
            if stage.metrics:
                stages.setdefault(stage.name, []).append((entry, stage))
    found = []
    for name, having in stages.items():
        metrics: dict[str, Metric] = {}
        for _, stage in having:
            for metric in stage.metrics:
                metrics.setdefault(metric.name, metric)
        measured = {entry.origin: _Measured(entry.origin, stage) for entry, stage in having}
        found += [_over_methods(name, metric, having, measured, baseline) for metric in metrics.values()]
    return found


def _over_methods(
    stage: str,
    metric: Metric,
    having: Sequence[tuple[Entry, StageReport]],
    measured: Mapping[str, _Measured],
    baseline: str,
) -> ComparedMetric:
    methods: dict[str, dict[int, _Value]] = {}
    for entry, report in having:
        own = next((one for one in report.metrics if one.name == metric.name), None)
        if own is not None:
            value = _Value(own, measured[entry.origin])
            methods.setdefault(entry.method, {})[entry.seed] = value
    first = baseline if baseline in methods else next(iter(methods))
    notes: list[str] = []
    differences = _differences(methods, first, notes)
    found = []
    for name, by_seed in methods.items():
        values, ends = tuple(one.metric.value for one in by_seed.values()), _interval(by_seed)
        better, count = metric.better, differences.get(name, (None, 0))[1]
        if name == first or name not in differences:
            found.append(Compared(name, values, better, ends, baseline=name == first))
            continue
        one = differences[name][0]
        assert one is not None
        p = one.p if one.interval is not None else None
        found.append(Compared(name, values, better, ends, count, one.difference.mean, one.interval, p))
    return ComparedMetric(stage, metric, found, list(dict.fromkeys(notes)))


class _Measured:
    """What a stage has measured in one run, item by item."""

    def __init__(self, origin: str, stage: StageReport) -> None:
        self.origin, self.rows, self.items = origin, stage.rows, stage.items()

    @cached_property
    def samples(self) -> set[str]:
        """Ids of the samples of all items."""
        return {id for items in self.items.values() for id in items.ids}

    def check(self, other: _Measured) -> None:
        """Raise `OtherItems` where it was measured on other samples: such metrics cannot be paired, and a difference
        between them would be one of the data."""
        if self.items and other.items and self.samples != other.samples:
            common = f"{len(self.samples & other.samples):,} of them are common to both"
            raise OtherItems(
                f"{self.origin} was measured on {len(self.samples):,} samples and {other.origin} on "
                f"{len(other.samples):,}, {common}"
            )
        if self.rows != other.rows:
            raise OtherItems(f"{self.origin} was measured on {self.rows} rows and {other.origin} on {other.rows}")


@dataclass(frozen=True)
class _Value:
    """A metric of one run."""

    metric: Metric
    measured: _Measured

    @property
    def origin(self) -> str:
        return self.measured.origin

    @property
    def items(self) -> StoredItems | None:
        """The scores of its items, where it is their mean."""
        return self.measured.items.get(self.metric.name)


def _differences(
    methods: Mapping[str, Mapping[int, _Value]], first: str, notes: list[str]
) -> dict[str, tuple[Comparison | None, int]]:
    """From the method `first`: the corrected difference of each other one, and the number of items paired over."""
    from mmflow.evaluate.comparison import corrected, paired_difference

    differences, counts = {}, {}
    for name, by_seed in methods.items():
        if name == first:
            continue
        mine, theirs = paired_seeds(by_seed, methods[first])
        try:
            for one in (*mine, *theirs):
                theirs[0].measured.check(one.measured)
            (a, b), groups = _scores([mine, theirs])
        except OtherItems as error:
            notes.append(str(error))
            continue
        one = paired_difference(a, b, groups)
        counts[name] = 0 if groups is None else a.shape[1]
        differences[name, first] = one
        if one.seeds == 1 and groups is None:
            notes.append(f"one run of {name}, and this metric is no mean over items: other runs are needed")
    return {one.first: (one, counts[one.first]) for one in corrected(differences)}


def _scores(
    methods: Sequence[Sequence[_Value]],
) -> tuple[list[NDArray[np.float64]], NDArray[np.int64] | None]:
    """Scores [seeds, items] of several methods on the same items, and the sample of each item; where a metric is no
    mean over items its values [seeds, 1], and None."""
    import numpy as np

    every = [one for values in methods for one in values]
    if any(one.items is None for one in every):
        return [np.array([[one.metric.value] for one in values]) for values in methods], None
    scores, groups = aligned([Items(one.origin, *one.items) for one in every if one.items is not None])
    ends = np.cumsum([len(values) for values in methods])[:-1]
    return list(np.split(scores, ends)), groups


def _interval(by_seed: Mapping[int, _Value]) -> tuple[float, float] | None:
    """95 % interval of the mean over the seeds of a method; of one seed that of the metric."""
    from mmflow.evaluate.comparison import mean_interval

    values = list(by_seed.values())
    if len(values) == 1:
        return values[0].metric.interval
    try:
        (scores,), groups = _scores([values])
    except OtherItems:
        return None
    return mean_interval(scores, groups)


def table(metrics: Iterable[ComparedMetric]) -> list[dict[str, Any]]:
    """The table as plain data."""
    return [
        {
            "stage": metric.stage,
            "metric": metric.metric.name,
            "group": metric.metric.group,
            "better": metric.metric.better,
            "chance": metric.metric.chance,
            "members": one.group,
            "seeds": len(one.values),
            "items": one.items,
            "mean": one.mean,
            "mean_interval": None if one.mean_interval is None else list(one.mean_interval),
            "spread": one.spread,
            "values": list(one.values),
            "difference": one.difference,
            "interval": None if one.interval is None else list(one.interval),
            "p": one.p,
            "verdict": one.verdict,
        }
        for metric in metrics
        for one in metric.groups
    ]
