"""A run as lines of JSON in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmflow.plugin import Metric, TrackedRun, Tracker, Tracking
from mmflow_trackers.naming import file_name


class JsonLines(Tracker, name="jsonl"):
    """Writes `<folder>/<run>/log.jsonl` while the run works, with `spec.yaml` and `figures/*.html` beside it.

    Each line has `time` (seconds since 1970, UTC) and `event`: `begin` (`run`, `name`, `stages`), `log` (`stage`,
    `step`, `numbers`), `metrics` (`stage`, `metrics` with `name`, `value`, `chance`, `better`, `unit`, `spread`),
    `figure`, `link`, `end` (`status`).
    """

    example: ClassVar[str] = "track: {log: jsonl}"

    folder: str = "runs"

    def begin(self, run: TrackedRun) -> Tracking:
        return _Lines(Path(self.folder) / run.id, run)


class _Lines(Tracking):
    def __init__(self, folder: Path, run: TrackedRun) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.yaml").write_text(run.spec, encoding="utf-8")
        self._write("begin", run=run.id, name=run.name, stages=list(run.stages))

    def _write(self, event: str, **said: Any) -> None:
        line = json.dumps({"time": round(time.time(), 3), "event": event, **said}, ensure_ascii=False)
        with open(self._folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        self._write("log", stage=stage, step=step, numbers=dict(numbers))

    def measured(self, stage: str, metrics: Sequence[Metric]) -> None:
        self._write("metrics", stage=stage, metrics=[metric.stored() for metric in metrics])

    def figure(self, stage: str, title: str, data: Mapping[str, Any], page: str) -> None:
        file = self._folder / "figures" / file_name(stage, title)
        file.parent.mkdir(exist_ok=True)
        file.write_text(page, encoding="utf-8")
        self._write("figure", stage=stage, title=title, file=f"figures/{file.name}")

    def link(self, title: str, url: str) -> None:
        self._write("link", title=title, url=url)

    def end(self, status: str) -> None:
        self._write("end", status=status)
