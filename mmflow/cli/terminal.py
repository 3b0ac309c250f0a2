"""A run on the terminal: bars with throughput and time left, plain lines elsewhere, results at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from mmflow.flow.jobs import Outcome, StageJob, Watcher

if TYPE_CHECKING:
    from rich.progress import TaskID

    from mmflow.flow.run import RunOutcome

EVERY = 10.0
"""Seconds between two plain lines of one stage."""


def progress_watcher(*, quiet: bool = False) -> Watcher:
    """Tells of a run on stderr: warnings only (`quiet`), bars on a terminal, else plain lines."""
    if quiet:
        return Warnings()
    return Bars() if sys.stderr.isatty() else Lines()


class Warnings(Watcher):
    """Warnings only."""

    def note(self, text: str, *, warning: bool = False) -> None:
        if warning:
            typer.echo(f"note: {text}", err=True)


class Pace:
    """Units done a second since a stage began to report, and the time that the rest will take."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first: int | None = None

    def at(self, done: int, total: int) -> tuple[float, float] | None:
        """`(units per second, seconds left)`; None before there is anything to go by."""
        if self._first is None:
            # A stage that goes on from a checkpoint begins far from 0.
            self._first, self._began = done, time.monotonic()
            return None
        spent = time.monotonic() - self._began
        if done <= self._first or spent <= 0:
            return None
        rate = (done - self._first) / spent
        return rate, max(0, total - done) / rate


class Lines(Watcher):
    """One line when a stage changes its state, and one every few seconds while it works."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}
        self._told: dict[str, float] = {}
        self._began: dict[str, float] = {}

    def waiting(self, text: str) -> None:
        typer.echo(f"{text} ...", err=True)

    def opened(self, run_id: str, run_name: str, jobs: Sequence[StageJob]) -> None:
        typer.echo(f"run {run_id}: {', '.join(job.name for job in jobs)}", err=True)

    def stage(self, name: str, state: str, detail: str = "") -> None:
        now = time.monotonic()
        if state == "running":
            self._began[name] = now
            self._told.pop(name, None)
            self._paces[name] = Pace()
        took = f" after {duration(now - self._began[name])}" if state != "running" and name in self._began else ""
        typer.echo(f"{name}: {state}{took}{_why(state, detail)}", err=True)

    def progress(self, name: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        pace = self._paces.setdefault(name, Pace()).at(done, total)
        now = time.monotonic()
        if done < total and now - self._told.get(name, 0.0) < EVERY:
            return
        self._told[name] = now
        speed = f", {pace[0]:.3g}/s, {duration(pace[1])} left" if pace else ""
        values = "".join(f", {key} {value:.4g}" for key, value in metrics.items())
        typer.echo(f"{name}: {done}/{total}{speed}{values}", err=True)

    def note(self, text: str, *, warning: bool = False) -> None:
        typer.echo(f"note: {text}", err=True)


class Bars(Watcher):
    """A bar for the stage at work, above it a line for each that has ended."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[values]}"),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._paces: dict[str, Pace] = {}
        self._began: dict[str, float] = {}

    def waiting(self, text: str) -> None:
        self._print(f"{text} ...")

    def opened(self, run_id: str, run_name: str, jobs: Sequence[StageJob]) -> None:
        self._print(f"run {run_id}")
        self._bars.start()

    def stage(self, name: str, state: str, detail: str = "") -> None:
        if state == "running":
            self._began[name] = time.monotonic()
            self._paces[name] = Pace()
            self._tasks[name] = self._bars.add_task(name, total=None, speed="", values="")
            return
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
        took = f" after {duration(time.monotonic() - self._began[name])}" if name in self._began else ""
        self._print(f"{name}: {state}{took}{_why(state, detail)}")

    def progress(self, name: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, speed="", values="")
        pace = self._paces.setdefault(name, Pace()).at(done, total)
        self._bars.update(
            self._tasks[name],
            completed=done,
            total=total,
            speed=f"{pace[0]:.3g}/s, {duration(pace[1])} left" if pace else "",
            values=", ".join(f"{key} {value:.4g}" for key, value in list(metrics.items())[:3]),
            # Short stages show their end, too.
            refresh=done >= total,
        )

    def note(self, text: str, *, warning: bool = False) -> None:
        self._print(f"note: {text}")

    def closed(self, outcome: Outcome) -> None:
        self._bars.stop()

    def _print(self, text: str) -> None:
        # Names and notes come from specs and data: nothing in them is markup.
        self._console.print(text, markup=False)


def _why(state: str, detail: str) -> str:
    """The reason of a state; a failure has been told before, in a note of its own."""
    return f" ({detail})" if detail and state != "failed" else ""


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def print_results(result: RunOutcome) -> None:
    """The metrics beside their chance levels, the states of the stages, and the place of the report, on stdout."""
    if result.lines:
        typer.echo("\n".join(result.lines) + "\n")
    states = ", ".join(f"{name} {state}" for name, state in result.outcome.stages.items())
    typer.echo(f"run {result.outcome.run_id}: {result.outcome.status} ({states})")
    if result.report:
        typer.echo(f"report: {result.report}")
