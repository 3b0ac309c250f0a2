"""The kind of what follows a run from outside: experiment trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mmflow.plugin.component import Component
from mmflow.plugin.values import Json, Metric


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker sees it; values of the environment are left out everywhere."""

    id: str
    """Sorts by time; new for each start, also of a run that goes on."""
    name: str
    spec: str
    """The resolved spec as YAML."""
    settings: Mapping[str, bool | int | float | str | None]
    """The plain values of the spec by their paths (`stages.train.batch_size`)."""
    stages: tuple[str, ...]


class Tracking:
    """One run in a tracker. All methods do nothing here; those of a subclass are called one after another, in a thread
    of their own beside the run. One that raises is told once, and the tracker is switched off."""

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        """What a stage measured at a step: `loss`, `loss/align`, `lr`, `value/losses.align.temperature`."""

    def measured(self, stage: str, metrics: Sequence[Metric]) -> None:
        """The metrics of an evaluation that has ended, now or in an earlier run."""

    def figure(self, stage: str, title: str, data: Mapping[str, Json], page: str) -> None:
        """A figure of an evaluation: its plain data (`kind`: bars, lines, points or matrix), and an HTML page of its
        own."""

    def link(self, title: str, url: str) -> None:
        """A path or URL worth keeping, such as that of the report."""

    def end(self, status: str) -> None:
        """The run has ended: `completed`, `failed`, `cancelled` or `interrupted`."""


class Tracker(Component, kind="tracker"):
    """Follows a run outside of mmflow. It observes, changes no result and is no part of any key."""

    observes: ClassVar[bool] = True
    shared: ClassVar[bool] = False

    def begin(self, run: TrackedRun) -> Tracking:
        """Open the run in the tracker; called before the first stage, in the thread of its `Tracking`."""
        raise NotImplementedError
