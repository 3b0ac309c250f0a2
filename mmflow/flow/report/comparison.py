"""The table over the members of a matrix: each metric of each, seeds together, against the first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from mmflow.flow.report.collect import RunReport, StageReport
from mmflow.flow.report.summary import cell, markdown_table, number, seconds
from mmflow.plugin.values import Metric
from mmflow.spec import Member

SHOWN = 40
"""Groups of members at most in the lines for a terminal; the page and the JSON have all."""


@dataclass(frozen=True)
class Compared:
    """A metric of a group: of the members that differ in nothing but their seed."""

    group: str
    values: tuple[float, ...]
    """One a seed."""
    difference: float | None = None
    """From the first group, the mean over the seeds that both have; None for that group itself."""
    interval: tuple[float, float] | None = None
    """Where the true difference lies (95 % for all groups together, by Holm's correction); None with one seed."""
    p: float | None = None
    """Of no difference, corrected for the number of groups."""

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


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of an evaluation over all groups."""

    stage: str
    metric: Metric
    """As the first member has it: its titles, its chance and its better direction."""
    groups: list[Compared]

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Group, value, spread over the seeds, difference from the first group with its interval, corrected p."""
        found = []
        for one in self.groups:
            away = "" if one.difference is None else _signed(one.difference)
            if one.interval is not None:
                away += f" [{_signed(one.interval[0])}, {_signed(one.interval[1])}]"
            value = number(one.mean) + (f" {self.metric.unit}" if self.metric.unit else "")
            p = (
                ""
                if one.p is None
                else f"{'' if one.p >= 0.001 else '< '}{max(one.p, 0.001):.3f}{' *' if one.real else ''}"
            )
            found.append((one.group, value, "" if one.spread is None else f"± {number(one.spread)}", away, p))
        return found


def compared(members: Mapping[str, tuple[Member, RunReport]]) -> list[ComparedMetric]:
    """Every metric that a member has measured, in the order in which they come."""
    stages: dict[str, dict[str, StageReport]] = {}
    for name, (_, report) in members.items():
        for stage in report.stages:
            if stage.metrics:
                stages.setdefault(stage.name, {})[name] = stage
    found = []
    for stage, having in stages.items():
        metrics: dict[str, Metric] = {}
        for one in having.values():
            for metric in one.metrics:
                metrics.setdefault(metric.name, metric)
        found += [_over_groups(stage, metric, having, members) for metric in metrics.values()]
    return found


def _over_groups(
    stage: str,
    metric: Metric,
    having: Mapping[str, StageReport],
    members: Mapping[str, tuple[Member, RunReport]],
) -> ComparedMetric:
    groups: dict[str, dict[int, float]] = {}
    for name, report in having.items():
        value = next((one.value for one in report.metrics if one.name == metric.name), None)
        if value is not None:
            member, run = members[name]
            groups.setdefault(member.group or "all seeds", {})[run.seed] = value
    return ComparedMetric(stage, metric, _against_the_first(groups))


def _against_the_first(groups: Mapping[str, Mapping[int, float]]) -> list[Compared]:
    first = next(iter(groups))
    seeds = [seed for seed in groups[first] if all(seed in values for values in groups.values())]
    plain = {name: tuple(values.values()) for name, values in groups.items()}
    if not seeds or len(groups) < 2:
        return [Compared(name, values) for name, values in plain.items()]
    from mmflow.evaluate.comparison import compare_all

    scores = {name: [[values[seed]] for seed in seeds] for name, values in groups.items()}
    away = {one.first: one for one in compare_all(scores, against=first)}
    found = [Compared(first, plain[first])]
    for name in list(groups)[1:]:
        one = away[name]
        p = one.p if one.interval is not None else None
        found.append(Compared(name, plain[name], one.difference.mean, one.interval, p))
    return found


def table(metrics: Iterable[ComparedMetric]) -> list[dict[str, Any]]:
    """The table as plain data."""
    return [
        {
            "stage": metric.stage,
            "metric": metric.metric.name,
            "group": metric.metric.group,
            "better": metric.metric.better,
            "members": one.group,
            "mean": one.mean,
            "spread": one.spread,
            "values": list(one.values),
            "difference": one.difference,
            "interval": None if one.interval is None else list(one.interval),
            "p": one.p,
        }
        for metric in metrics
        for one in metric.groups
    ]


def lines(metrics: Sequence[ComparedMetric]) -> list[str]:
    """The table for a terminal, one block a metric."""
    found: list[str] = []
    titles = ("", "value", "over seeds", f"difference{_from(metrics)}", "p")
    for metric in metrics:
        rows = metric.rows()
        more = len(rows) - SHOWN
        rows = rows[:SHOWN]
        widths = [max(len(row[i]) for row in (titles, *rows)) for i in range(5)]
        heading = f"{metric.stage}: {metric.metric.label}" + (" (lower is better)" * (metric.metric.better == "lower"))
        found.append(heading)
        for row in (titles, *rows):
            found.append("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        found += [f"  and {more} more: the report and --json have all"] if more > 0 else []
    return found


def tables_markdown(report: RunReport, compared: Sequence[ComparedMetric]) -> str:
    """The table in Markdown; `report` is that of one of the members."""
    parts = [f"# {cell(report.name)}", f"Run `{report.run_id}`, {seconds(report.seconds)}."]
    for metric in compared:
        parts.append(f"## {cell(f'{metric.stage}: {metric.metric.label}')}")
        parts.append(
            markdown_table(["members", "value", "over seeds", "difference from the first", "p"], metric.rows())
        )
    parts += [f"- {cell(note)}" for note in report.notes]
    return "\n\n".join(parts) + "\n"


def _from(metrics: Sequence[ComparedMetric]) -> str:
    firsts = {metric.groups[0].group for metric in metrics}
    return f" from {firsts.pop()}" if len(firsts) == 1 else ""


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{number(abs(value))}"
