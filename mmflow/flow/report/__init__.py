"""The report of a run, from its record and stored results: as an HTML page, as terminal lines and as Markdown."""

from mmflow.flow.report.collect import Example, Figure, RunReport, ShownRow, StageReport, collect
from mmflow.flow.report.page import figure_page, render
from mmflow.flow.report.summary import summary_lines, summary_markdown

__all__ = [
    "Example",
    "Figure",
    "RunReport",
    "ShownRow",
    "StageReport",
    "collect",
    "figure_page",
    "render",
    "summary_lines",
    "summary_markdown",
]
