"""The report of a run over the members of a matrix; of one spec it is that spec's report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmflow.flow.report.collect import RunReport, StageReport, collect
from mmflow.flow.report.comparison import ComparedMetric, Entry, compared, table
from mmflow.flow.report.page import render, render_members
from mmflow.flow.report.sentences import NOTHING_BEFORE, Before, run_before
from mmflow.flow.report.summary import (
    left_out_lines,
    remark_lines,
    said_once,
    summary_lines,
    summary_markdown,
)
from mmflow.flow.report.tables import lines, run_markdown
from mmflow.flow.store import RunRecord, RunStore
from mmflow.spec import Member

ILLUSTRATED = 24
"""Members whose examples and maps are shown: a page with those of all would be too large to open."""


@dataclass(frozen=True)
class MembersReport:
    """The reports of all members by name."""

    members: Mapping[str, tuple[Member, RunReport]]
    before: Before = NOTHING_BEFORE
    """The run before, of one spec."""

    @property
    def entries(self) -> list[Entry]:
        """The members as runs of methods: those that differ in nothing but their seed are one."""
        return [Entry(m.group or "all seeds", run.seed, run, name) for name, (m, run) in self.members.items()]

    @cached_property
    def compared(self) -> list[ComparedMetric]:
        """The table over the members."""
        return compared(self.entries)

    @property
    def single(self) -> RunReport | None:
        """The report where there is no matrix."""
        return self.members[""][1] if "" in self.members else None

    @property
    def first(self) -> RunReport:
        return next(report for _, report in self.members.values())

    def table(self) -> list[dict[str, Any]]:
        return [] if self.single else table(self.compared)

    def lines(self) -> list[str]:
        """For a terminal: the metrics beside chance, or the table over the members; then what was left out."""
        if self.single:
            return summary_lines(self.single)
        left_out = dict.fromkeys(line for _, report in self.members.values() for line in left_out_lines(report))
        remarks = said_once(self.remarks())
        return [*lines(self.compared), *left_out, *remark_lines(remarks)]

    def markdown(self) -> str:
        return summary_markdown(self.single) if self.single else run_markdown(self.first, self.compared)

    def page(self) -> str:
        """The whole page."""
        if self.single:
            return render(self.single, self.before)
        reports = {name: report for name, (_, report) in self.members.items()}
        return render_members(reports, self.entries, self.compared)

    def remarks(self) -> dict[str, list[str]]:
        """Warnings about the results, by stage; of a matrix, each stage with its member."""
        return {
            f"{member}.{stage.name}" if member else stage.name: stage.remarks
            for member, (_, report) in self.members.items()
            for stage in report.stages
            if stage.remarks
        }

    def left_out(self) -> dict[str, dict[str, str]]:
        """By entry of `data`: samples that could not be read, with the reason."""
        found: dict[str, dict[str, str]] = {}
        for _, report in self.members.values():
            for entry in report.data:
                if entry.skipped:
                    found.setdefault(entry.name, {}).update(entry.skipped)
        return found


def collect_members(
    store: RunStore, record: RunRecord, members: Mapping[str, tuple[Member, Mapping[str, str]]]
) -> MembersReport:
    """Gather the reports of all members of a recorded run, given with the names of their stages in it.

    A stage that several share is shown whole with the first of them.
    """
    found: dict[str, tuple[Member, RunReport]] = {}
    shown: dict[str, tuple[str, StageReport]] = {}
    for number, (name, (member, stages)) in enumerate(members.items()):
        report = collect(store, record, member.spec, stages, shown, illustrated=number < ILLUSTRATED)
        for stage in report.stages:
            shown.setdefault(stages.get(stage.name, stage.name), (name, stage))
        found[name] = member, report
    before = run_before(store, record, found[""][1]) if "" in found else NOTHING_BEFORE
    return MembersReport(found, before)
