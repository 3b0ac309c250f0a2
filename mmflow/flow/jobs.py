"""The words of a run: stages to be called, their outcome, and watchers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from mmflow.plugin.kinds import Reporter

TableRows: TypeAlias = Sequence[Mapping[str, Any]]
"""Rows of a small table, such as metrics."""
StageState: TypeAlias = Literal["done", "cached", "unneeded", "failed", "skipped", "stopped"]
"""`done` ran now, `cached` was stored before, `unneeded` is a later iteration of a repetition that has ended, `skipped`
was not begun, `stopped` was begun and asked to stop."""
SETTLED = ("done", "cached", "unneeded")
"""The states after which stages that read one can begin."""


class NotNeeded(Exception):
    """Raised by `StageJob.decide` for a stage that is not to be run; the message says why."""


@dataclass(frozen=True)
class StageJob:
    """One stage of a run, ready to be called."""

    name: str
    """Name in the spec, such as `train` or `retrieval`."""
    key: str
    """Content key under which `run` publishes its result; empty where `decide` tells it."""
    after: tuple[str, ...]
    """Names of the earlier stages that it reads."""
    run: Callable[[Reporter], None]
    describe: Mapping[str, str] = field(default_factory=dict)
    """Facts of its declaration to show, by name."""
    decide: Callable[[], str] | None = None
    """Of a stage for which results of this run decide: called once the stages of `after` are done, it returns the key,
    or raises `NotNeeded`."""


@dataclass
class Outcome:
    """How a run ended: `completed` when every stage's result is stored, `interrupted` by a signal."""

    run_id: str
    status: Literal["completed", "cancelled", "interrupted", "failed"] = "completed"
    stages: dict[str, StageState] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Lines for the user: failures, a lost API, how to go on."""
    exit_code: int = 0


class Watcher:
    """Sees a run go by; the base sees nothing. Names of stages are those of the jobs."""

    def waiting(self, text: str) -> None:
        """Something that takes a moment has begun, before the first stage: `loading PyTorch`."""

    def opened(self, run_id: str, run_name: str, jobs: Sequence[StageJob]) -> None:
        """Before the first stage."""

    def decided(self, name: str, key: str) -> None:
        """The key of a stage is known only now."""

    def stage(self, name: str, state: StageState | Literal["running"], detail: str = "") -> None:
        """A stage has changed its state."""

    def progress(self, name: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """A stage has done `done` of `total` units."""

    def log(self, name: str, step: int, numbers: Mapping[str, float]) -> None:
        """A stage has measured something at a step."""

    def table(self, name: str, key: str, rows: TableRows) -> None:
        """A stage shows a table."""

    def markdown(self, name: str, key: str, text: str) -> None:
        """A stage shows a text."""

    def link(self, name: str, key: str, url: str, text: str | None) -> None:
        """A stage shows a link."""

    def traceback(self, name: str, text: str) -> None:
        """The traceback of a stage (or the report) that has failed."""

    def note(self, text: str, *, warning: bool = False) -> None:
        """One line for the user; a warning is also in the outcome."""

    def closed(self, outcome: Outcome) -> None:
        """After everything."""
