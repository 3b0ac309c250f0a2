"""A sentence a metric: its value, interval and chance, and whether it is better than in the run before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmflow.flow.members import recorded_members
from mmflow.flow.report.collect import RunReport, StageReport, collect
from mmflow.flow.report.comparison import CANNOT_TELL, NO_DIFFERENCE, Compared, Entry, compared
from mmflow.flow.report.summary import interval, number, times_chance
from mmflow.flow.store import RunRecord, RunStore
from mmflow.plugin.values import Metric

LOOKED_AT = 20
"""Earlier runs at most among which one of the same name is looked for."""


@dataclass(frozen=True)
class Before:
    """The run before: what its metrics were, and whether those of now differ."""

    run_id: str = ""
    found: Mapping[tuple[str, str], tuple[Compared, Compared]] = field(default_factory=dict)
    """By stage and metric: then, and now with its difference from then."""

    def of(self, stage: StageReport, metric: Metric) -> tuple[Compared, Compared] | None:
        return self.found.get((stage.name, metric.name))

    def said(self, stage: StageReport, metric: Metric) -> str:
        """`better than 0.31 in the run before`; empty where that has not measured it, or on other data, or where it is
        the same result."""
        pair = self.of(stage, metric)
        if pair is None:
            return ""
        then, now = pair
        value = number(then.mean)
        if now.verdict == CANNOT_TELL:
            return f"it was {value} in the run before"
        real = "no real difference from" if now.verdict == NO_DIFFERENCE else f"{now.verdict} than"
        return f"{real} {value} in the run before"


NOTHING_BEFORE = Before()


def sentence(stage: StageReport, metric: Metric, before: Before) -> str:
    """The metric as a sentence: `image → text R@1 is 0.31 (0.27 to 0.35), 15× chance; better than 0.25 in the run
    before.`"""
    said = f"{metric.label} is {number(metric.value)}{f' {metric.unit}' if metric.unit else ''}"
    ends = metric.interval
    said += f" ({interval(metric)})" if ends is not None else ""
    if metric.chance is not None:
        if ends is not None and ends[0] <= metric.chance <= ends[1]:
            said += f", which cannot be told from guessing ({number(metric.chance)})"
        elif times := times_chance(metric):
            said += f", {times} {'better than ' if metric.better == 'lower' else ''}chance ({number(metric.chance)})"
        else:
            said += f" (chance {number(metric.chance)})"
    than = before.said(stage, metric)
    return f"{said}; {than}." if than else f"{said}."


def run_before(store: RunStore, record: RunRecord, report: RunReport) -> Before:
    """The newest earlier run of one spec of the same name in which a stage of the same name has measured otherwise; an
    empty one where there is none, or it cannot be read."""
    try:
        name = record.about().get("name", "")
        earlier = [run for run in store.runs() if run < record.id and run.rpartition("-")[0].endswith(_slug(record.id))]
        for run in reversed(earlier[-LOOKED_AT:]):
            other = store.run(run)
            if other.about().get("name", "") == name and (found := _compared(store, other, report)):
                return Before(run, found)
    except Exception:
        # An old record that cannot be read any more must not cost this report.
        return NOTHING_BEFORE
    return NOTHING_BEFORE


def _slug(run_id: str) -> str:
    """`-quickstart` of `20261130T093606.586-quickstart-f9f9`."""
    return f"-{run_id.partition('-')[2].rpartition('-')[0]}"


def _compared(
    store: RunStore, record: RunRecord, report: RunReport
) -> dict[tuple[str, str], tuple[Compared, Compared]]:
    members = recorded_members(record, with_data=False)
    if list(members) != [""]:
        return {}
    member, names = members[""]
    before = collect(store, record, member.spec, names or None, illustrated=False)
    same = {stage.key for stage in before.stages if stage.key}
    now = [stage for stage in report.stages if stage.metrics and stage.key not in same]
    entries = [Entry("before", before.seed, before, before.run_id), Entry("now", report.seed, report, report.run_id)]
    wanted = {stage.name for stage in now}
    found = {}
    for metric in compared(entries, "before"):
        groups = {one.group: one for one in metric.groups}
        if metric.stage in wanted and len(groups) == 2 and groups["now"].difference is not None:
            found[metric.stage, metric.metric.name] = groups["before"], groups["now"]
    return found
