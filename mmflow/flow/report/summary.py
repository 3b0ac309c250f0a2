"""The results of a run in a few lines: for a terminal, and as Markdown for other tools."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mmflow.flow.report.collect import RunReport, StageReport
from mmflow.plugin.values import Metric

FIRST_IDS = 5
"""Samples left out that are named; the report's page names more."""


def number(value: float | None) -> str:
    """A number for reading: three or four significant digits."""
    if value is None:
        return ""
    size = abs(value)
    if value == int(value) and size < 1e6:
        return f"{value:,.0f}"
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.1f}"
    if size >= 10:
        return f"{value:.2f}"
    if size >= 0.001:
        return f"{value:.3f}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def seconds(value: float | None) -> str:
    """A duration: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if value is None:
        return ""
    if value < 10:
        return f"{value:.1f} s" if value >= 0.05 else "< 0.1 s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def times_chance(metric: Metric) -> str:
    """How far a metric stands from chance, where that is one number: `21×`."""
    if not metric.chance or metric.value <= 0 or not metric.better:
        return ""
    ratio = metric.value / metric.chance if metric.better == "higher" else metric.chance / metric.value
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.1f}×"


def interval(metric: Metric) -> str | None:
    """The 95 % interval of a metric: `0.31 to 0.42`; None where it was not measured."""
    ends = metric.interval
    return None if ends is None else f"{number(ends[0])} to {number(ends[1])}"


def grouped(metrics: Sequence[Metric]) -> list[tuple[str, list[Metric]]]:
    """Metrics by group, in the order in which the groups come; those of no group beside groups are `overall`."""
    found: dict[str, list[Metric]] = {}
    for metric in metrics:
        found.setdefault(metric.group, []).append(metric)
    return [(name or ("overall" if len(found) > 1 else ""), those) for name, those in found.items()]


def metric_rows(stage: StageReport) -> list[tuple[str, str, str, str]]:
    """Group and title, value with its unit and interval, chance, and distance from chance of each metric of a stage."""
    rows = []
    for metric in (metric for _, metrics in grouped(stage.metrics) for metric in metrics):
        value = number(metric.value) + (f" {metric.unit}" if metric.unit else "")
        if (ends := interval(metric)) is not None:
            value += f" ({ends})"
        rows.append((metric.label, value, number(metric.chance), times_chance(metric)))
    return rows


def left_out_lines(report: RunReport) -> list[str]:
    """For each entry of `data` its parts that belong to no sample, its caveats, and the first bad samples."""
    lines = []
    for entry in report.data:
        lines += [f"{entry.name}: {found}" for found in (*entry.left_out, *entry.caveats)]
        if ids := list(entry.skipped):
            count = f"{len(ids)} sample{'s' if len(ids) > 1 else ''} of {entry.name} left out"
            lines.append(f"{count}: {', '.join(ids[:FIRST_IDS])}{', ...' if len(ids) > FIRST_IDS else ''}")
    return lines


def summary_lines(report: RunReport) -> list[str]:
    """A plain-text table of all metrics beside chance, one block a stage; then lines about the data."""
    lines: list[str] = []
    measured = [stage for stage in report.stages if stage.metrics]
    rows = [row for stage in measured for row in metric_rows(stage)]
    width = max((len(row[0]) for row in rows), default=0) + 2
    values = max((len(row[1]) for row in rows), default=0) + 2
    chances = max([8, *(len(row[2]) + 2 for row in rows)])
    for stage in measured:
        note = " (stored)" if stage.cached else ""
        count = f" on {stage.rows} rows" if stage.rows is not None else ""
        over = f" of {stage.data}" if stage.data else ""
        lines.append(f"{stage.name}{count}{over}{note}")
        lines.append(f"  {'':<{width}}{'value':<{values}}{'chance':<{chances}}x chance".rstrip())
        for name, value, chance, times in metric_rows(stage):
            lines.append(f"  {name:<{width}}{value:<{values}}{chance:<{chances}}{times}".rstrip())
        lines += [f"  note: {note}" for note in stage.notes]
    return lines + waiting_lines(report) + left_out_lines(report) + remark_lines(remarks_of(report))


def said_once(remarks: Mapping[str, Sequence[str]]) -> list[tuple[str, list[str]]]:
    """Warnings about results by stage, each once with the stages that it is about."""
    found: dict[str, list[str]] = {}
    for stage, those in remarks.items():
        for remark in those:
            found.setdefault(remark, []).append(stage)
    return list(found.items())


def remark_lines(remarks: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Warnings with the stages that they are about, under a title."""
    lines = [f"  {', '.join(stages)}: {remark}" for remark, stages in remarks]
    return ["remarks", *lines] if lines else []


def remarks_of(report: RunReport) -> list[tuple[str, list[str]]]:
    """The warnings about the results of a run."""
    return said_once({stage.name: stage.remarks for stage in report.stages})


def waiting_lines(report: RunReport) -> list[str]:
    """The share of its time that each training of this run waited for data, after its first steps."""
    return [
        f"{stage.name}: {100 * stage.training['waiting']:.1f} % of the time after the first steps was waiting for data"
        for stage in report.stages
        if "waiting" in stage.training and not stage.cached
    ]


def summary_markdown(report: RunReport) -> str:
    """The metrics and stages as Markdown tables."""
    parts = [f"# {cell(report.name)}", f"Run `{report.run_id}`, {report.status}, {seconds(report.seconds)}."]
    parts += _remarks_markdown(remarks_of(report))
    for stage in report.stages:
        if stage.metrics:
            parts.append(f"## {cell(stage.name)}")
            parts.append(markdown_table(["metric", "value (95 %)", "chance", "× chance"], metric_rows(stage)))
            parts += [f"- {cell(note)}" for note in stage.notes]
    rows = [(s.name, s.use, s.state, seconds(s.seconds), s.key[:12]) for s in report.stages]
    parts += ["## stages", markdown_table(["stage", "use", "state", "time", "key"], rows)]
    parts += [f"- {cell(note)}" for note in (*left_out_lines(report), *report.notes)]
    return "\n\n".join(parts) + "\n"


def _remarks_markdown(remarks: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    lines = [f"- {cell(', '.join(stages))}: {cell(remark)}" for remark, stages in remarks]
    return ["## remarks", *lines] if lines else []


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Text that Markdown and HTML inside it take as it is."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_|\[\]#])", r"\\\1", text)
