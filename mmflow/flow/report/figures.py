"""Figures as inline SVG, without scripts or outside fonts; colors are the page's variables, so that they turn dark.

Every text that is put in is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from mmflow.flow.report.summary import number

COLORS = 9
"""Colors that the page defines (`--c0` and on); the last stands for all others."""
LONGEST_LINE = 400
"""Points a line is thinned to."""
LARGEST_MATRIX_WITH_NUMBERS = 16

_Line = Sequence[tuple[float, float]]


def line_chart(
    series: Mapping[str, _Line], *, x_label: str, width: int = 340, height: int = 200, zero: bool = False
) -> Markup:
    """Lines over a common x axis; a legend below where there are several. `zero` lets the y axis begin at 0."""
    series = {name: _thin([p for p in line if all(map(math.isfinite, p))]) for name, line in series.items()}
    series = {name: line for name, line in series.items() if line}
    if not series:
        return Markup("")
    xs = [x for line in series.values() for x, _ in line]
    ys = [y for line in series.values() for _, y in line]
    bottom = min(0.0, min(ys)) if zero else min(ys)
    whole = all(x == int(x) for x in xs)
    x_ticks, y_ticks = ticks(min(xs), max(xs), 5, whole=whole), ticks(bottom, max(ys), 4)
    left, right, top, low = 46, 10, 8, 34
    plot = _Plot((min(xs), max(xs)), (y_ticks[0], y_ticks[-1]), (left, top, width - right, height - low))
    out = [_open(width, height), *_grid(plot, x_ticks, y_ticks)]
    out.append(_text("axis", (left + width - right) / 2, height - 3, x_label, "middle"))
    for place, line in enumerate(series.values()):
        color = _color(place)
        points = " ".join(f"{plot.x(x):.1f},{plot.y(y):.1f}" for x, y in line)
        out.append(f'<polyline class="line s{color}" points="{points}"/>')
        if len(line) == 1:
            x, y = plot.x(line[0][0]), plot.y(line[0][1])
            out.append(f'<circle class="dot f{color}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    out.append("</svg>")
    return Markup("".join(map(str, out))) + (legend(list(series)) if len(series) > 1 else Markup(""))


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    chance: float | None = None,
    counts: Sequence[int] | None = None,
    limit: int = 24,
) -> Markup:
    """Horizontal bars from 0, each with its number; a dashed line marks chance. The first `limit` are shown."""
    total = len(values)
    labels, values = list(labels)[:limit], [float(v) for v in values][:limit]
    if not values:
        return Markup("")
    largest = max([1.0 if max(values) <= 1 else max(values), chance or 0.0])
    row, left, width = 19, 150, 470
    height = row * len(values) + 6
    scale = (width - left - 60) / largest
    out = [_open(width, height, natural=True)]
    for place, (label, value) in enumerate(zip(labels, values, strict=True)):
        y, end = place * row + 3, left + largest * scale
        box = f'x="{left}" y="{y + 3}" height="{row - 7}" rx="2"'
        count = f" (n = {counts[place]})" if counts is not None else ""
        out.append(f"<g><title>{escape(label)}: {number(value)}{escape(count)}</title>")
        out.append(_text("label", left - 8, y + 13, _short(label, 22), "end"))
        out.append(f'<rect class="track" {box} width="{end - left:.1f}"/>')
        out.append(f'<rect class="bar" {box} width="{max(0.0, value) * scale:.1f}"/>')
        out.append(_text("value", end + 6, y + 13, number(value)) + "</g>")
    if chance is not None:
        x = left + chance * scale
        out.append(f'<line class="chance" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height}"><title>chance</title></line>')
    out.append("</svg>")
    more = f'<p class="note">{limit} of {total} are shown.</p>' if total > limit else ""
    return Markup("".join(map(str, out)) + more)


def matrix(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]], *, row_title: str, column_title: str
) -> Markup:
    """A table of counts as shades, each row relative to its sum."""
    size = max(len(rows), len(columns))
    cell = 34 if size <= 8 else 26 if size <= LARGEST_MATRIX_WITH_NUMBERS else max(7, 420 // size)
    named = cell >= 11
    left = (16 + min(120, 7 * max((len(str(r)) for r in rows), default=1))) if named else 22
    top = (20 + min(100, 5 * max((len(str(c)) for c in columns), default=1))) if named else 22
    width, height = left + cell * len(columns) + 60, top + cell * len(rows) + 4
    out = [_open(width, height, natural=True)]
    middle = (left + cell * len(columns) / 2, top + cell * len(rows) / 2)
    out.append(_text("axis", middle[0], 11, column_title, "middle"))
    out.append(_text("axis", 10, middle[1], row_title, "middle", turn=-90))
    out.append(f'<rect class="cell" x="{left - 1}" y="{top - 1}" width="{cell * len(columns) + 1}"')
    out.append(f' height="{cell * len(rows) + 1}"/>')
    for place, label in enumerate(columns if named else ()):
        out.append(_text("label", left + (place + 0.5) * cell + 3, top - 5, _short(label, 16), turn=-40))
    for i, (label, row) in enumerate(zip(rows, values, strict=True)):
        total = sum(row)
        y = top + i * cell
        if named:
            out.append(_text("label", left - 5, y + cell / 2 + 4, _short(label, 18), "end"))
        for j, value in enumerate(row):
            if not value:
                continue
            share = value / total
            box = f'x="{left + j * cell}" y="{y}" width="{cell - 1}" height="{cell - 1}"'
            says = f"{label} as {columns[j]}: {number(value)} of {number(total)}"
            out.append(f'<g><title>{escape(says)}</title><rect class="shade" {box} fill-opacity="{share:.3f}"/>')
            if size <= LARGEST_MATRIX_WITH_NUMBERS:
                tone = "count on" if share > 0.55 else "count"
                out.append(_text(tone, left + (j + 0.5) * cell, y + cell / 2 + 3.5, f"{value:g}", "middle"))
            out.append("</g>")
    out.append("</svg>")
    return Markup("".join(map(str, out)))


def scatter(
    points: Sequence[Sequence[float]],
    groups: Sequence[str],
    tips: Sequence[str],
    *,
    width: int = 400,
    height: int = 320,
) -> Markup:
    """Points in the plane on equal scales, colored by group; the most frequent groups have colors of their own."""
    if not points:
        return Markup("")
    names = _most_frequent(groups)
    where = _EqualScales(points, width, height, 10)
    out = [
        _open(width, height),
        f'<rect class="plane" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="4"/>',
    ]
    for point, group, tip in zip(points, groups, tips, strict=True):
        place = names.index(group) if group in names else COLORS - 1
        cx, cy = where(point)
        spot = f'cx="{cx:.1f}" cy="{cy:.1f}" r="2.6"'
        out.append(f'<circle class="dot f{place}" {spot}><title>{escape(tip)}</title></circle>')
    out.append("</svg>")
    others = len(set(groups)) > len(names)
    return Markup("".join(map(str, out))) + legend(names, others=others)


def sparkline(values: Sequence[float], *, width: int = 96, height: int = 48) -> Markup:
    """The course of a series, without axes."""
    low, high = min(values), max(values)
    plot = _Plot((0, max(1, len(values) - 1)), (low, high), (2, 2, width - 2, height - 2))
    points = " ".join(f"{plot.x(i):.1f},{plot.y(v):.1f}" for i, v in enumerate(values))
    return Markup(f'{_open(width, height, natural=True)}<polyline class="line s0" points="{points}"/></svg>')


def small_scatter(points: Sequence[Sequence[float]], *, width: int = 96, height: int = 72) -> Markup:
    """Points (x, y) on equal scales, y upwards, without axes."""
    if not points:
        return Markup("")
    place = _EqualScales(points, width, height, 4)
    spots = "".join(f'<circle class="dot f0" cx="{x:.1f}" cy="{y:.1f}" r="1.6"/>' for x, y in map(place, points))
    return Markup(f"{_open(width, height, natural=True)}{spots}</svg>")


def gauge(value: float, chance: float | None) -> Markup:
    """A metric from 0 to 1 as a bar, with a mark at chance."""
    width = 120
    mark = ""
    if chance is not None:
        x = min(1.0, max(0.0, chance)) * width
        mark = f'<line class="mark" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="12"/>'
    filled = min(1.0, max(0.0, value)) * width
    return Markup(
        f'{_open(width, 12, natural=True)}<rect class="track" y="3" width="{width}" height="6" rx="2"/>'
        f'<rect class="bar" y="3" width="{filled:.1f}" height="6" rx="2"/>{mark}</svg>'
    )


def figure(data: Mapping[str, Any]) -> Markup:
    """A plain-data figure of an evaluator (`EvaluationResult.figures`); a kind not known here gives nothing."""
    kind = data.get("kind")
    if kind == "bars":
        return bars(data["labels"], data["values"], chance=data.get("chance"), counts=data.get("counts"))
    if kind == "lines":
        series = {str(n): list(zip(data["x"], line, strict=True)) for n, line in data["series"].items()}
        return line_chart(series, x_label=data.get("x_label", ""), width=460, height=240)
    if kind == "points":
        groups = [str(g) for g in data.get("group") or [""] * len(data["points"])]
        return scatter(data["points"], groups, groups)
    if kind == "matrix":
        return matrix(
            data["rows"], data["columns"], data["values"],
            row_title=data.get("row_title", ""), column_title=data.get("column_title", ""),
        )  # fmt: skip
    return Markup("")


def legend(names: Sequence[str], *, others: bool = False) -> Markup:
    """Names beside their colors."""
    entries = [(name, _color(place)) for place, name in enumerate(names)]
    if others:
        entries.append(("others", COLORS - 1))
    items = "".join(f'<span><i class="b{color}"></i>{escape(name or "(none)")}</span>' for name, color in entries)
    return Markup(f'<div class="legend">{items}</div>')


def ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """About `count` round numbers from `low` or below to `high` or above, in steps of 1, 2 or 5 times a power of 10.

    `whole`: of things that are counted, such as steps, which have no parts.
    """
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, last + 1)]


class _Plot:
    """Maps values to places in a box of the drawing."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], box: tuple[float, float, float, float]) -> None:
        self.box, self._x, self._y = box, x, y

    def x(self, value: float) -> float:
        left, _, right, _ = self.box
        low, high = self._x
        return left + (value - low) / ((high - low) or 1.0) * (right - left)

    def y(self, value: float) -> float:
        _, top, _, bottom = self.box
        low, high = self._y
        return bottom - (value - low) / ((high - low) or 1.0) * (bottom - top)


class _EqualScales:
    """Maps points to a box of `width` and `height`, `room` free at each side, with one scale for both axes."""

    def __init__(self, points: Sequence[Sequence[float]], width: float, height: float, room: float) -> None:
        xs, ys = [point[0] for point in points], [point[1] for point in points]
        self.center, self.middle = (width / 2, height / 2), ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
        self.scale = max((max(xs) - min(xs)) / (width - 2 * room), (max(ys) - min(ys)) / (height - 2 * room)) or 1.0

    def __call__(self, point: Sequence[float]) -> tuple[float, float]:
        x = self.center[0] + (point[0] - self.middle[0]) / self.scale
        return x, self.center[1] - (point[1] - self.middle[1]) / self.scale


def _grid(plot: _Plot, x_ticks: Iterable[float], y_ticks: Sequence[float]) -> list[str]:
    left, _, right, bottom = plot.box
    out = []
    for value in y_ticks:
        y = plot.y(value)
        out.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        out.append(_text("tick", left - 5, y + 3.5, _tick(value), "end"))
    for value in x_ticks:
        x = plot.x(value)
        if left - 1 <= x <= right + 1:
            out.append(_text("tick", x, bottom + 13, _tick(value), "middle"))
    return out


def _tick(value: float) -> str:
    size = abs(value)
    if size < 1e-12:
        return "0"
    if size >= 1e6 or size < 1e-4:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:,.10g}" if size < 1000 else f"{value:,.0f}"


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start", *, turn: float = 0) -> str:
    place = f'transform="translate({x:.1f} {y:.1f}) rotate({turn:g})"' if turn else f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text class="{kind}" {place} text-anchor="{anchor}">{escape(text)}</text>'


def _open(width: float, height: float, *, natural: bool = False) -> str:
    """The start of a drawing; a drawing of `natural` size does not grow with the page."""
    size = f' width="{width:.0f}" height="{height:.0f}"' if natural else ' width="100%"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"{size} role="img">'


def _thin(line: _Line) -> _Line:
    """At most `LONGEST_LINE` points: means of neighbors, the last point kept."""
    if len(line) <= LONGEST_LINE:
        return line
    size = math.ceil(len(line) / LONGEST_LINE)
    groups = [line[i : i + size] for i in range(0, len(line), size)]
    thinned = [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
    return [*thinned, line[-1]]


def _most_frequent(groups: Sequence[str]) -> list[str]:
    """The groups that get a color, in a stable order: those of most points, then by name."""
    counts: dict[str, int] = {}
    for group in groups:
        counts[group] = counts.get(group, 0) + 1
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return sorted(names if len(names) <= COLORS else names[: COLORS - 1])


def _color(place: int) -> int:
    return min(place, COLORS - 1)


def _short(text: object, length: int) -> str:
    said = str(text)
    return said if len(said) <= length else said[: length - 1] + "…"
