"""Charts of what trainings have logged: of one, and of several methods beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from mmflow.flow.report import figures
from mmflow.flow.report.collect import StageReport
from mmflow.flow.report.comparison import Entry

_CURVES = (
    ("Gradient norm", "grad_norm"),
    ("Learning rate", "lr"),
    ("Samples per second", "samples_per_second"),
)
_Line = list[tuple[float, float]]


def training_curves(stage: StageReport) -> list[tuple[str, Markup]]:
    """Titles and charts of the values that a training stage has logged."""
    history = stage.history

    def series(key: str) -> list[tuple[float, float]]:
        return [(float(line["step"]), float(line[key])) for line in history if line.get(key) is not None]

    keys = list(dict.fromkeys(key for line in history for key in line))
    losses = {key.partition("/")[2]: series(key) for key in keys if key.startswith("loss/")}
    if "loss" in keys and len(losses) != 1:
        losses = {"total": series("loss"), **losses}
    charts = [("Loss", figures.line_chart(losses, x_label="step"))] if losses else []
    values = {key.partition("/")[2]: series(key) for key in keys if key.startswith("value/")}
    charts += [(_last_two(path), figures.line_chart({path: line}, x_label="step")) for path, line in values.items()]
    charts += _measured({key: series(key) for key in keys if "." in key and "/" not in key})
    charts += [
        (name, figures.line_chart({name: series(key)}, x_label="step", zero=True))
        for name, key in _CURVES
        if key in keys
    ]
    return charts


def _measured(series: Mapping[str, list[tuple[float, float]]]) -> list[tuple[str, Markup]]:
    """Charts of what stages inside a training have measured: one for the shares of each, one for each other number."""
    shares: dict[str, dict[str, list[tuple[float, float]]]] = {}
    charts: list[tuple[str, Markup]] = []
    for key, line in series.items():
        group, stage, metric = key.split(".", 2)
        if all(0 <= value <= 1 for _, value in line):
            shares.setdefault(f"{group}.{stage}", {})[metric] = line
        else:
            charts.append((key, figures.line_chart({key: line}, x_label="step")))
    for stage, lines in shares.items():
        title = f"{stage}.{next(iter(lines))}" if len(lines) == 1 else stage
        charts.append((title, figures.line_chart(lines, x_label="step")))
    return charts


def _last_two(path: str) -> str:
    """`losses.align.temperature` as a heading: `align temperature`."""
    return " ".join(path.split(".")[-2:])


def curves_beside(entries: Sequence[Entry]) -> list[tuple[str, list[tuple[str, Markup]]]]:
    """For each training the charts of its losses and of what was measured inside it, a line for each method: the mean
    over its seeds at the steps that all of them have logged. A number that only one method has is left out, and so are
    methods for which no color is left."""
    stages: dict[str, dict[str, list[StageReport]]] = {}
    for entry in entries:
        for stage in entry.report.stages:
            if stage.history:
                stages.setdefault(stage.name, {}).setdefault(entry.method, []).append(stage)
    found = []
    for name, methods in stages.items():
        shown = dict(list(methods.items())[: figures.COLORS])
        lines: dict[str, dict[str, _Line]] = {}
        for method, runs in shown.items():
            for key in dict.fromkeys(key for run in runs for line in run.history for key in line):
                if key == "loss" or key.startswith("loss/") or ("." in key and "/" not in key):
                    lines.setdefault(key, {})[method] = _mean_line(runs, key)
        total = len([key for key in lines if key.startswith("loss/")]) != 1
        charts = [
            (_title(key), figures.line_chart(by_method, x_label="step"))
            for key, by_method in lines.items()
            if len(by_method) > 1 and (key != "loss" or total)
        ]
        if charts:
            found.append((name, charts))
    return found


def _mean_line(runs: Sequence[StageReport], key: str) -> _Line:
    by_run: list[dict[float, float]] = []
    for run in runs:
        logged = {float(line["step"]): float(line[key]) for line in run.history if line.get(key) is not None}
        by_run += [logged] if logged else []
    steps = sorted(set.intersection(*map(set, by_run))) if by_run else []
    return [(step, sum(run[step] for run in by_run) / len(by_run)) for step in steps]


def _title(key: str) -> str:
    return "Total loss" if key == "loss" else f"Loss {key.partition('/')[2]}" if key.startswith("loss/") else key
