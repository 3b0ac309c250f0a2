"""A tracker of one's own: it follows a run from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from mmflow.plugin import Metric, TrackedRun, Tracker, Tracking


class CLASS(Tracker, name="NAME"):
    """Appends a line of text for each measurement to a file.

    Say here where a run can be followed.
    """

    example: ClassVar[str] = "track: [{use: NAME, path: runs.txt}]"

    path: str = "runs.txt"

    def begin(self, run: TrackedRun) -> Tracking:
        return _Lines(self.path, run.name)


class _Lines(Tracking):
    def __init__(self, path: str, name: str) -> None:
        self._path, self._name = path, name

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        self._write(f"{stage} step {step}: " + ", ".join(f"{key} {value:.4g}" for key, value in numbers.items()))

    def measured(self, stage: str, metrics: Sequence[Metric]) -> None:
        for metric in metrics:
            self._write(f"{stage} {metric.name} {metric.value:.4g}")

    def end(self, status: str) -> None:
        self._write(status)

    def _write(self, text: str) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{self._name}: {text}\n")
