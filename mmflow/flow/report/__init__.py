"""The report of a run, from its record and stored results: as an HTML page, as terminal lines and as Markdown."""

from mmflow.flow.report.collect import Example, Figure, RunReport, ShownRow, StageReport, collect
from mmflow.flow.report.members import MembersReport, collect_members
from mmflow.flow.report.page import figure_page, render
from mmflow.flow.report.summary import summary_lines, summary_markdown

__all__ = [
    "Example",
    "Figure",
    "MembersReport",
    "RunReport",
    "ShownRow",
    "StageReport",
    "collect",
    "collect_members",
    "figure_page",
    "render",
    "summary_lines",
    "summary_markdown",
]
