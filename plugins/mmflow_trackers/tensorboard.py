"""TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Metric, TrackedRun, Tracker, Tracking
from mmflow_trackers.naming import metric_name, series

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class TensorBoard(Tracker, name="tensorboard"):
    """Writes event files to `<folder>/<run>`, for `tensorboard --logdir <folder>`.

    Curves and metrics are scalars, the spec is a text; of figures, lines are scalars over their x, and the others are
    texts with a table, as TensorBoard shows no pages.
    """

    extra: ClassVar[str] = "track"
    requires: ClassVar[tuple[str, ...]] = ("tensorboard",)
    example: ClassVar[str] = "track: {board: {use: tensorboard, folder: runs}}"

    folder: str = "runs"

    def begin(self, run: TrackedRun) -> Tracking:
        from torch.utils.tensorboard.writer import SummaryWriter

        writer = SummaryWriter(str(Path(self.folder) / run.id))
        writer.add_text("spec", f"```yaml\n{run.spec}```")
        return _Board(writer)


class _Board(Tracking):
    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            if name != "step":
                self._writer.add_scalar(series(stage, name), value, step)
        self._writer.flush()

    def measured(self, stage: str, metrics: Sequence[Metric]) -> None:
        for metric in metrics:
            self._writer.add_scalar(metric_name(stage, metric), metric.value)
        self._writer.flush()

    def figure(self, stage: str, title: str, data: Mapping[str, Any], page: str) -> None:
        if data.get("kind") == "lines":
            for name, line in data["series"].items():
                for x, y in zip(data["x"], line, strict=True):
                    self._writer.add_scalar(series(stage, f"{title}/{name}"), y, int(x))
        else:
            self._writer.add_text(series(stage, title), "\n".join(_table(data)))

    def link(self, title: str, url: str) -> None:
        self._writer.add_text(title, url)

    def end(self, status: str) -> None:
        self._writer.add_text("status", status)
        self._writer.close()


def _table(data: Mapping[str, Any]) -> Iterator[str]:
    """A figure as a Markdown table."""
    if data.get("kind") == "matrix":
        columns, rows = ["", *data["columns"]], list(zip(data["rows"], data["values"], strict=True))
        cells = [[row, *values] for row, values in rows]
    elif data.get("kind") == "bars":
        columns, cells = ["", "value"], list(zip(data["labels"], data["values"], strict=True))
    else:
        columns, cells = ["x", "y"], data.get("points", [])
    yield f"| {' | '.join(map(str, columns))} |"
    yield "|---" * len(columns) + "|"
    yield from (f"| {' | '.join(map(str, row))} |" for row in cells)
