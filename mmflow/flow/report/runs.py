"""Several recorded runs beside each other: which of them are seeds of one method, and what to call the methods."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from mmflow.flow.members import recorded_members, recorded_text
from mmflow.flow.report.collect import RunReport, collect
from mmflow.flow.report.comparison import ComparedMetric, Entry, compared
from mmflow.flow.store import RunRecord, RunStore
from mmflow.plugin.component import ComponentError
from mmflow.spec import Member
from mmflow.spec.text.expand import read_text
from mmflow.spec.text.problems import did_you_mean

_FREE = ("seed", "name", "report", "track")
"""Sections of a spec that do not make another method."""
LONGEST = 60
"""Characters of a name that is made of what differs."""


@dataclass(frozen=True)
class RunsReport:
    """Runs beside each other."""

    entries: Sequence[Entry]
    metrics: Sequence[ComparedMetric]
    notes: Sequence[str]

    @property
    def title(self) -> str:
        return f"{len(self.methods)} methods, {len(self.entries)} runs" if len(self.methods) > 1 else self.methods[0]

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(entry.method for entry in self.entries))


@dataclass(frozen=True)
class _Run:
    """A run, or a member of one, with its spec as plain data."""

    origin: str
    member: Member
    report: RunReport
    spec: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Equal for runs that differ in nothing but their seed."""
        return json.dumps({n: v for n, v in self.spec.items() if n not in _FREE}, sort_keys=True, default=str)


def compare_runs(
    found: Sequence[tuple[RunStore, RunRecord]], *, baseline: str = "", metrics: Sequence[str] = ()
) -> RunsReport:
    """The table over recorded runs and the members of matrices: those that differ in their seed alone are one method.

    `baseline` names a method, a run or a member; `metrics` are patterns (`retrieval.*`, `*r1`) of the metrics wanted.
    Raises `ComponentError` where the runs have no metric in common, or were measured on other items.
    """
    runs = [run for store, record in found for run in _members(store, record)]
    names = _method_names(runs)
    notes: list[str] = []
    entries: dict[tuple[str, int], Entry] = {}
    for run in runs:
        method = names[run.identity]
        entry = Entry(method, run.report.seed, run.report, run.origin)
        first = entries.setdefault((method, entry.seed), entry)
        if first.origin != entry.origin:
            notes.append(f"{run.origin} has the spec and seed of {first.origin} and is left out")
        elif run.report.status not in ("completed", ""):
            notes.append(f"{run.origin}: {run.report.status}")
    kept = list(entries.values())
    chosen = _baseline(baseline, kept) if baseline else ""
    table = [one for one in compared(kept, chosen) if _wanted(one, metrics)]
    methods = len({entry.method for entry in kept})
    common = [one for one in table if methods == 1 or len(one.groups) > 1]
    if not common:
        raise _nothing_in_common(kept, metrics)
    if methods > 1 and not any(row.difference is not None for one in common for row in one.groups):
        reasons = dict.fromkeys(note for one in common for note in one.notes)
        raise ComponentError(
            f"nothing can be compared: {'; '.join(reasons)}", hint="measure all of them on the same data"
        )
    alone = [f"{one.stage} {one.metric.label}" for one in table if one not in common]
    if alone:
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        notes.append(f"measured for one method alone, and left out: {', '.join(alone[:3])}{more}")
    if methods == 1:
        notes.append(f"all runs are of one method ({kept[0].method}): there is nothing to compare it with")
    return RunsReport(kept, common, notes)


def _members(store: RunStore, record: RunRecord) -> list[_Run]:
    """The members of a run; a stage that several share is read with each."""
    found = []
    for name, (member, stages) in recorded_members(record, with_data=False).items():
        run = f"{record.id}:{name}" if name else record.id
        report = collect(store, record, member.spec, stages, illustrated=False)
        spec = read_text(recorded_text(record, name), run).data
        found.append(_Run(run, member, report, spec))
    return found


def _method_names(runs: Sequence[_Run]) -> dict[str, str]:
    """A name for each method: that of its members without their seed, that of its spec, or what differs in the spec."""
    first = {run.identity: run for run in reversed(runs)}
    methods = list(dict.fromkeys(run.identity for run in runs))
    by_member = {m: first[m].member.group for m in methods}
    by_spec = {m: first[m].report.name for m in methods}
    by_both = {m: f"{by_spec[m]} {by_member[m]}".strip() for m in methods}
    by_difference = dict(zip(methods, _differences([first[m].spec for m in methods]), strict=True))
    for names in (by_member, by_spec, by_both, by_difference):
        if all(names.values()) and len(set(names.values())) == len(methods):
            return names
    return {m: f"{by_both[m]} ({first[m].origin})" for m in methods}


def _differences(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What differs in each spec from the others, as `PATH=VALUE`."""
    leaves = [dict(_leaves({n: v for n, v in spec.items() if n not in _FREE})) for spec in specs]
    paths = dict.fromkeys(path for spec in leaves for path in spec)
    odd = [path for path in paths if len({spec.get(path) for spec in leaves}) > 1]
    # A component that is another one says more than its fields.
    odd.sort(key=lambda path: (not path.endswith(".use"), path.count(".")))
    said = []
    for spec in leaves:
        text = ", ".join(f"{path}={spec[path]}" for path in odd if path in spec)
        said.append(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")
    return said


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [leaf for name, one in value.items() for leaf in _leaves(one, f"{path}.{name}" if path else str(name))]
    return [(path, json.dumps(value, default=str) if not isinstance(value, str) else value)]


def _baseline(asked: str, entries: Sequence[Entry]) -> str:
    """The method that is asked for by its name, or by that of a run or member."""
    methods = list(dict.fromkeys(entry.method for entry in entries))
    if asked in methods:
        return asked
    found = {
        entry.method
        for entry in entries
        if asked in (entry.origin, entry.origin.rpartition(":")[2]) or entry.origin.startswith(f"{asked}:")
    }
    if len(found) == 1:
        return found.pop()
    raise ComponentError(
        f"there is no method {asked!r} to compare with" if not found else f"{asked} has several methods: name one",
        expected=f"one of: {', '.join(methods)}", hint=did_you_mean(asked, methods) or "",
    )  # fmt: skip


def _wanted(metric: ComparedMetric, patterns: Sequence[str]) -> bool:
    names = (metric.metric.name, f"{metric.stage}.{metric.metric.name}", metric.stage)
    return not patterns or any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _nothing_in_common(entries: Sequence[Entry], patterns: Sequence[str]) -> ComponentError:
    said: dict[str, str] = {}
    for entry in entries:
        names = [f"{s.name}.{m.name}" for s in entry.report.stages for m in s.metrics]
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        said.setdefault(entry.method, f"{entry.method} has {', '.join(names[:6]) + more if names else 'no metrics'}")
    asked = f" like {', '.join(patterns)}" if patterns else ""
    return ComponentError(
        f"the runs have no metric{asked} in common: {'; '.join(list(said.values())[:4])}",
        hint="stages are compared by their names: measure with stages of the same names",
    )
