from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmflow.flow.report import figures
from mmflow.flow.report.summary import number, seconds, times_chance
from mmflow.plugin import Metric

SVG = "{http://www.w3.org/2000/svg}"
numbers = st.floats(-1e9, 1e9, allow_nan=False)


def drawings(markup: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<div>{markup}</div>").iter(f"{SVG}svg"))


@given(numbers, numbers, st.integers(1, 8))
def test_ticks_enclose_the_values_in_round_steps(a, b, count):
    low, high = min(a, b), max(a, b)
    found = figures.ticks(low, high, count)
    room = 1e-6 * max(abs(low), abs(high), 1.0)
    assert found[0] <= low + room
    assert found[-1] >= high - room
    assert 2 <= len(found) <= 2.5 * count + 3


names = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=8)


@given(st.dictionaries(names, st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5), min_size=1, max_size=3))
def test_any_line_chart_is_well_formed(series):
    (svg,) = drawings(figures.line_chart(series, x_label="<step>"))
    box = [float(v) for v in svg.attrib["viewBox"].split()]
    for line in svg.iter(f"{SVG}polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert -0.1 <= x <= box[2] + 0.1
            assert -0.1 <= y <= box[3] + 0.1


def test_long_lines_are_thinned_and_end_where_they_end():
    line = [(float(i), math.sin(i)) for i in range(100_000)]
    (svg,) = drawings(figures.line_chart({"a": line}, x_label="step"))
    points = next(svg.iter(f"{SVG}polyline")).attrib["points"].split()
    assert len(points) <= figures.LONGEST_LINE + 1
    assert float(points[-1].split(",")[0]) == pytest.approx(330, abs=0.1)


def test_values_that_are_not_finite_are_left_out():
    drawn = figures.line_chart({"a": [(0, 1), (1, math.nan), (2, math.inf), (3, 2)]}, x_label="step")
    (svg,) = drawings(drawn)
    assert len(next(svg.iter(f"{SVG}polyline")).attrib["points"].split()) == 2
    assert figures.line_chart({"a": [(0, math.nan)]}, x_label="step") == ""


def test_shades_of_a_matrix_are_shares_of_its_rows():
    (svg,) = drawings(figures.matrix(["a", "<b>"], ["a", "b"], [[3, 1], [0, 2]], row_title="r", column_title="c"))
    shades = [float(r.attrib["fill-opacity"]) for r in svg.iter(f"{SVG}rect") if r.attrib["class"] == "shade"]
    assert shades == [0.75, 0.25, 1.0]
    tips = [t.text for t in svg.iter(f"{SVG}title")]
    assert tips == ["a as a: 3 of 4", "a as b: 1 of 4", "<b> as b: 2 of 2"]


def test_the_most_frequent_groups_have_colors_and_the_rest_shares_one():
    groups = [f"g{i}" for i in range(20) for _ in range(20 - i)]
    points = [[float(i), float(i % 3)] for i in range(len(groups))]
    drawn = figures.scatter(points, groups, groups)
    (svg,) = drawings(drawn)
    colors = {}
    for spot, group in zip(svg.iter(f"{SVG}circle"), groups, strict=True):
        colors.setdefault(group, set()).add(spot.attrib["class"])
    assert all(len(c) == 1 for c in colors.values())
    own = {next(iter(colors[f"g{i}"])) for i in range(8)}
    assert len(own) == 8
    assert {next(iter(colors[f"g{i}"])) for i in range(8, 20)} == {"dot f8"}
    assert "others" in drawn


def test_a_plane_has_equal_scales():
    (svg,) = drawings(figures.scatter([[0, 0], [1, 0], [0, 1]], ["a"] * 3, ["", "", ""]))
    xy = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in svg.iter(f"{SVG}circle")]
    assert xy[1][0] - xy[0][0] == pytest.approx(xy[0][1] - xy[2][1], abs=0.2)
    assert figures.scatter([[1.0, 1.0]], ["a"], ["t"]) != ""


def test_figures_of_evaluators_are_drawn_by_kind():
    assert drawings(figures.figure({"kind": "bars", "labels": ["<a>"], "values": [0.5], "chance": 0.1, "counts": [3]}))
    assert drawings(figures.figure({"kind": "lines", "x": [1, 2], "series": {"a": [3, 4]}}))
    assert drawings(figures.figure({"kind": "points", "points": [[0, 1], [1, 0]]}))
    assert drawings(figures.figure({"kind": "matrix", "rows": ["a"], "columns": ["b"], "values": [[1]]}))
    assert figures.figure({"kind": "bars", "labels": [], "values": []}) == ""
    assert figures.figure({"kind": "hologram"}) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1"), (0.5571, "0.557"), (12.345, "12.35"), (123.45, "123.5"), (1234.5, "1,234"),
        (0.00012, "1.2e-4"), (None, ""),
    ],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_names_and_durations_are_readable():
    assert Metric("image_to_text_r10", 0.5, title="R@10", group="image → text").label == "image → text R@10"
    # A name is no title: nothing is read out of it.
    assert Metric("image_to_text_r10", 0.5).label == "image to text r10"
    assert [seconds(s) for s in (0.01, 3.21, 59.7, 200, 7500, None)] == [
        "< 0.1 s", "3.2 s", "1 min 0 s", "3 min 20 s", "2 h 5 min", "",
    ]  # fmt: skip


def test_distance_from_chance_has_the_direction_of_the_metric():
    assert times_chance(Metric("m", 0.5, 0.01, "higher")) == "50×"
    assert times_chance(Metric("m", 2.0, 50.0, "lower")) == "25×"
    assert times_chance(Metric("m", 0.9, 0.5, "")) == ""
    assert times_chance(Metric("m", 0.0, 0.5, "higher")) == ""
    assert times_chance(Metric("m", 0.3, None, "higher")) == ""


@pytest.mark.parametrize(("first", "last"), [(1, 3), (10, 12), (7, 7), (1, 2), (0, 40_000)])
def test_steps_have_whole_numbers_on_their_axis(first: int, last: int) -> None:
    chart = figures.line_chart(
        {"loss": [(float(step), 1.5 / (1 + step)) for step in range(first, last + 1)]}, x_label="step"
    )
    (svg,) = drawings(chart)
    below = max(float(text.attrib["y"]) for text in svg.iter(f"{SVG}text") if text.attrib["class"] == "tick")
    shown = [
        text.text
        for text in svg.iter(f"{SVG}text")
        if float(text.attrib["y"]) == below and text.attrib["class"] == "tick"
    ]
    assert shown
    assert all(label is not None and label.replace("k", "000").replace(",", "").isdigit() for label in shown), shown
