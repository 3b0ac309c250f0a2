"""The report as one HTML page: opens from disk, asks the network for nothing, runs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mmflow.flow.report import figures, tables
from mmflow.flow.report.collect import RunReport, ShownRow, StageReport
from mmflow.flow.report.comparison import ComparedMetric, Entry
from mmflow.flow.report.curves import curves_beside, training_curves
from mmflow.flow.report.runs import RunsReport
from mmflow.flow.report.sentences import NOTHING_BEFORE, Before, sentence
from mmflow.flow.report.summary import grouped, interval, number, remarks_of, seconds, times_chance
from mmflow.plugin.values import Metric

HEADLINES = 6


def render(report: RunReport, before: Before = NOTHING_BEFORE) -> str:
    """The whole page of one spec as text. Everything that comes from data, spec or run is escaped."""
    body = _body(report, anchors=True, before=before)
    return _template("page").render(**_shown_of(report, before), body=body, style=Markup(_style()))


def render_members(
    members: Mapping[str, RunReport], entries: Sequence[Entry], compared: Sequence[ComparedMetric]
) -> str:
    """The page of the members of a matrix: the table over them, then each folded."""
    return _template("members").render(
        report=next(iter(members.values())),
        **_beside(entries, compared),
        notes=list(dict.fromkeys(note for report in members.values() for note in report.notes)),
        members=[(name, report, _body(report, anchors=False)) for name, report in members.items()],
        style=Markup(_style()),
    )


def render_runs(found: RunsReport) -> str:
    """The page of several runs beside each other."""
    return _template("runs").render(
        title=found.title,
        entries=found.entries,
        notes=found.notes,
        **_beside(found.entries, found.metrics),
        style=Markup(_style()),
    )


def _beside(entries: Sequence[Entry], compared: Sequence[ComparedMetric]) -> dict[str, Any]:
    """The table over methods, and their curves."""
    return {
        "compared": [(stage, list(metrics)) for stage, metrics in groupby(compared, lambda one: one.stage)],
        "footnotes": tables.footnotes(compared),
        "curves": curves_beside(entries),
    }


def _body(report: RunReport, *, anchors: bool, before: Before = NOTHING_BEFORE) -> Markup:
    """The sections about one spec; `anchors` makes them targets of links."""

    def anchor(name: str) -> Markup:
        return Markup(' id="{}"').format(name) if anchors else Markup("")

    return Markup(_template("run").render(**_shown_of(report, before), anchor=anchor))


def _shown_of(report: RunReport, before: Before) -> dict[str, Any]:
    measured = [stage for stage in report.stages if stage.metrics]
    return {
        "report": report,
        "remarks": remarks_of(report),
        "measured": measured,
        "headlines": _headlines(measured),
        "before": before,
        "sentence": sentence,
        "trained": [stage for stage in report.stages if stage.history],
        "curves": training_curves,
        "maps": _maps(report),
        "shown": _shown,
        "environment": report.environment,
    }


def figure_page(title: str, data: Mapping[str, Any]) -> str:
    """One figure of an evaluator as a page of its own."""
    page = Markup("<!doctype html><meta charset='utf-8'><title>{}</title><style>{}</style><main><h3>{}</h3>{}</main>")
    return str(page.format(title, Markup(_style()), title, _figure(data)))


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "number": number, "seconds": seconds, "grouped": grouped, "times_chance": times_chance, "interval": interval,
        "figure": _figure, "gauge": _gauge, "moment": _moment, "signed": tables.signed, "p_value": tables.p_value,
        "ends": tables.ends, "signed_ends": tables.signed_ends,
    }  # fmt: skip
    return environment.get_template(f"{name}.html.j2")


@cache
def _style() -> str:
    return (Path(__file__).parent / "page.css").read_text()


def _headlines(measured: list[StageReport]) -> list[dict[str, StageReport | Metric]]:
    """The metrics to read first: of each evaluation the first ones that know their chance, taken in turn."""
    queues = [[(s, m) for m in s.metrics if m.chance is not None and m.better] for s in measured]
    queues = [queue for queue in queues if queue]
    chosen: list[tuple[StageReport, Metric]] = []
    while queues and len(chosen) < HEADLINES:
        for queue in queues:
            chosen.append(queue.pop(0))
        queues = [queue for queue in queues if queue]
    order = {stage.name: place for place, stage in enumerate(measured)}
    chosen = sorted(chosen[:HEADLINES], key=lambda pair: order[pair[0].name])
    return [{"stage": stage, "metric": metric} for stage, metric in chosen]


def _figure(data: Mapping[str, Any]) -> Markup:
    """A figure of an evaluator; a figure that lacks data of its kind is replaced by a note."""
    try:
        return figures.figure(data)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        said = Markup('<p class="note">This figure cannot be drawn: {}: {}</p>')
        return said.format(type(error).__name__, error)


def _gauge(metric: Metric) -> Markup:
    """A bar for a metric from 0 to 1: only where the metric has a chance level there and is better when higher."""
    chance, value = metric.chance, metric.value
    if chance is None or metric.better == "lower" or not (0 <= value <= 1 and 0 <= chance <= 1):
        return Markup("")
    return figures.gauge(value, chance)


def _maps(report: RunReport) -> list[dict[str, Any]]:
    """A map of every encoder: several evaluations store one, those of most encoders are shown."""
    stages = sorted((s for s in report.stages if s.map), key=lambda s: -len(set((s.map or {})["group"])))
    found: list[dict[str, Any]] = []
    for stage in stages:
        drawn = stage.map or {}
        if any(set(drawn["group"]) <= set(other["groups"]) for other in found):
            continue
        labels = drawn.get("label")
        tips = [
            f"{group}: {id}{f' ({label})' if label else ''}"
            for group, id, label in zip(drawn["group"], drawn["ids"], labels or [None] * len(drawn["ids"]), strict=True)
        ]
        found.append(
            {
                "stage": stage,
                "groups": list(dict.fromkeys(drawn["group"])),
                "rows": len(set(drawn["ids"])),
                "joint": drawn.get("joint", True),
                "explained": drawn.get("explained"),
                "by_group": figures.scatter(drawn["points"], drawn["group"], tips),
                "by_label": figures.scatter(drawn["points"], labels, tips) if labels and len(set(labels)) > 1 else None,
            }
        )
    return found


def _shown(row: ShownRow) -> Markup:
    """One value of the data: an image, a player, a drawing or text."""
    kind, content = row.value.kind, row.value.content
    if kind == "text":
        return Markup('<q title="{}: {}">{}</q>').format(row.id, content, content)
    if kind == "image":
        return Markup('<img src="{}" alt="{}" title="{}">').format(content, row.id, row.id)
    if kind == "audio":
        return Markup('<audio controls preload="none" src="{}" title="{}"></audio>').format(content, row.id)
    draw = {"line": figures.sparkline, "points": figures.small_scatter}[kind]
    return Markup('<span title="{}">{}</span>').format(row.id, draw(content))


def _moment(iso: str) -> str:
    """`2026-11-23T21:34:52.1+00:00` as `2026-11-23 21:34 UTC`."""
    return f"{iso[:10]} {iso[11:16]} UTC" if len(iso) >= 16 else iso
