"""The table over methods as text for a terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence

from mmflow.flow.report.collect import RunReport
from mmflow.flow.report.comparison import Compared, ComparedMetric
from mmflow.flow.report.summary import cell, markdown_table, number, seconds

SHOWN = 40
"""Methods at most in the lines for a terminal; the page and the other formats have all."""
TITLES = ("", "value (95 %)", "over seeds", "difference (95 %)", "p", "")
CORRECTED = (
    "Differences are paired over items and seeds; their intervals and p are corrected, metric by metric, for the "
    "number of methods compared (Holm)."
)
ONE_SEED = (
    "One seed of a method: a difference holds for the trained models, not for the methods; seed: [0, 1, 2] in `matrix` "
    "tells more."
)


def rows(metric: ComparedMetric) -> list[tuple[str, str, str, str, str, str]]:
    """Of each method: its name, value with interval, spread over the seeds, difference with interval, corrected p, and
    the verdict in words."""
    return [_row(one, metric.metric.unit) for one in metric.groups]


def _row(one: Compared, unit: str) -> tuple[str, str, str, str, str, str]:
    value = number(one.mean) + (f" {unit}" if unit else "")
    if one.mean_interval is not None:
        value += f" ({ends(one.mean_interval)})"
    away = "" if one.difference is None else signed(one.difference)
    if one.interval is not None:
        away += f" ({signed_ends(one.interval)})"
    spread = "" if one.spread is None else f"± {number(one.spread)}"
    return one.group, value, spread, away, p_value(one.p), one.verdict


def footnotes(metrics: Sequence[ComparedMetric]) -> list[str]:
    """What a reader of the table must know."""
    every = [one for metric in metrics for one in metric.groups]
    notes = [CORRECTED] if any(one.p is not None for one in every) else []
    if any(one.p is not None and len(one.values) == 1 for one in every):
        notes.append(ONE_SEED)
    said: dict[str, list[str]] = {}
    for metric in metrics:
        for note in metric.notes:
            said.setdefault(note, []).append(f"{metric.stage} {metric.metric.label}")
    return [*notes, *(f"{_some(where)}: {note}" for note, where in said.items())]


def lines(metrics: Sequence[ComparedMetric]) -> list[str]:
    """The table for a terminal, one block a metric; then what must be known."""
    found: list[str] = []
    for metric in metrics:
        cells = rows(metric)
        more = len(cells) - SHOWN
        cells = cells[:SHOWN]
        if not any(len(one.values) > 1 for one in metric.groups):
            cells = [(*row[:2], "", *row[3:]) for row in cells]
        shown = [TITLES, *cells]
        # A column in which nothing stands is left out.
        columns = [i for i in range(len(TITLES)) if any(row[i] for row in cells)]
        widths = {i: max(len(row[i]) for row in shown) for i in columns}
        found.append(metric.heading)
        found += ["  " + "  ".join(row[i].ljust(widths[i]) for i in columns).rstrip() for row in shown]
        found += [f"  and {more} more: the report and --json have all"] if more > 0 else []
    return found + footnotes(metrics)


def markdown(title: str, metrics: Sequence[ComparedMetric], intro: str = "", notes: Sequence[str] = ()) -> str:
    """The table in Markdown, under a title."""
    parts = [f"# {cell(title)}"] + ([intro] if intro else [])
    for metric in metrics:
        parts.append(f"## {cell(metric.heading)}")
        parts.append(markdown_table(["method", *TITLES[1:-1], "verdict"], rows(metric)))
    parts += [f"- {cell(note)}" for note in (*footnotes(metrics), *notes)]
    return "\n\n".join(parts) + "\n"


def run_markdown(report: RunReport, metrics: Sequence[ComparedMetric]) -> str:
    """The table over the members of a matrix in Markdown; `report` is that of one of them."""
    intro = f"Run `{report.run_id}`, {seconds(report.seconds)}."
    return markdown(report.name, metrics, intro, report.notes)


def latex(metrics: Sequence[ComparedMetric], notes: Sequence[str] = ()) -> str:
    """The table in LaTeX (booktabs), one block a metric; real differences are bold, and what must be known is a comment
    above."""
    said = [f"% {line}" for line in (*footnotes(metrics), *notes)]
    out = [*said, r"\begin{tabular}{llllll}", r"\toprule"]
    out.append(r"method & value (95 \%) & over seeds & difference (95 \%) & $p$ & verdict \\")
    for metric in metrics:
        out += [r"\midrule", rf"\multicolumn{{6}}{{l}}{{\emph{{{tex(metric.heading)}}}}} \\"]
        for one, row in zip(metric.groups, rows(metric), strict=True):
            cells = [tex(text) for text in row]
            if one.real:
                cells[3] = rf"\textbf{{{cells[3]}}}"
            out.append(" & ".join(cells) + r" \\")
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}"]) + "\n"


COLUMNS: Mapping[str, Callable[[ComparedMetric, Compared], object]] = {
    "stage": lambda metric, one: metric.stage,
    "metric": lambda metric, one: metric.metric.name,
    "group": lambda metric, one: metric.metric.group,
    "better": lambda metric, one: metric.metric.better,
    "chance": lambda metric, one: metric.metric.chance,
    "method": lambda metric, one: one.group,
    "seeds": lambda metric, one: len(one.values),
    "items": lambda metric, one: one.items or None,
    "value": lambda metric, one: one.mean,
    "value_low": lambda metric, one: _end(one.mean_interval, 0),
    "value_high": lambda metric, one: _end(one.mean_interval, 1),
    "spread_over_seeds": lambda metric, one: one.spread,
    "difference": lambda metric, one: one.difference,
    "difference_low": lambda metric, one: _end(one.interval, 0),
    "difference_high": lambda metric, one: _end(one.interval, 1),
    "p_corrected": lambda metric, one: one.p,
    "verdict": lambda metric, one: one.verdict,
}


def as_csv(metrics: Sequence[ComparedMetric]) -> str:
    """One line a metric and method, numbers in full."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for metric in metrics:
        for one in metric.groups:
            writer.writerow([_plain(read(metric, one)) for read in COLUMNS.values()])
    return out.getvalue()


def p_value(p: float | None) -> str:
    """A p-value with three decimals."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{'−' if value < 0 else '+'}{number(abs(value))}"


def ends(interval: tuple[float, float] | None) -> str:
    """`0.31 to 0.42`."""
    return "" if interval is None else f"{number(interval[0])} to {number(interval[1])}"


def signed_ends(interval: tuple[float, float] | None) -> str:
    """`−0.02 to +0.11`."""
    return "" if interval is None else f"{signed(interval[0])} to {signed(interval[1])}"


def tex(text: str) -> str:
    """Text as LaTeX sets it."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "−": "$-$",
        "±": r"$\pm$",
    }
    special |= {"→": r"$\to$", "–": "--", "<": "$<$", ">": "$>$"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(special.get(sign, sign) for sign in " ".join(text.split()))


def _end(interval: tuple[float, float] | None, side: int) -> float | None:
    return None if interval is None else interval[side]


def _plain(value: object) -> object:
    """A cell of a CSV file; a text that a spreadsheet would take for a formula is quoted."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@"):
        return f"'{value}"
    return "" if value is None else value


def _some(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
