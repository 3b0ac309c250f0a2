"""The output type `Metrics`: numbers, examples and figures of an evaluator, and the map of its embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from mmflow.plugin.component import ComponentError
from mmflow.plugin.values import Example, Metric
from mmflow.redaction import redacted_data


class Measured(TypedDict, total=False):
    """The content of `metrics.json`: `metrics` as `Metric.stored` gives them; figures are plain data."""

    metrics: list[dict[str, Any]]
    examples: list[Example]
    figures: dict[str, dict[str, Any]]
    notes: list[str]
    """A sentence each: numbers that were not measured, and why."""
    rows: int
    data: str | None
    """The entry that was measured on."""
    reads: list[str | None]
    skipped: dict[str, dict[str, str]]
    seconds: float


class EmbeddingMap(TypedDict):
    """Points in the plane, each with its row, its encoder and, where the data has one, its label."""

    points: list[list[float]]
    ids: list[str]
    group: list[str]
    label: list[str] | None
    joint: bool
    """Whether all encoders were projected together."""
    explained: list[float] | None
    """Shares of the variance that the two axes hold."""


class MetricsArtifact:
    """Stored metrics: `metrics.json`, and `map.json` where a map was drawn."""

    def __init__(self, output: Path) -> None:
        self._file, self._map = output / "metrics.json", output / "map.json"

    def write(self, content: Measured, drawn: EmbeddingMap | None = None) -> None:
        """Store the content; tensors and arrays inside become lists. Raises `TypeError` for other objects."""
        self._file.write_text(json.dumps(redacted_data(content), ensure_ascii=False, indent=1, default=_as_list))
        if drawn is not None:
            self._map.write_text(json.dumps(redacted_data(drawn), ensure_ascii=False))

    def read(self) -> Measured:
        """The stored content; empty for a stage that measures nothing."""
        return json.loads(self._file.read_text()) if self._file.exists() else {}

    def metrics(self) -> list[Metric]:
        """The stored metrics."""
        return [Metric.read(stored) for stored in self.read().get("metrics", [])]

    def judged(self, name: str, *, asked: str, stage: str, written: str) -> Metric:
        """The metric that decides something, as `asked` names it; `written` is how the spec calls the stage that has
        measured it. Raises `ComponentError` where there is none of that name, or no direction is better."""
        known = self.metrics()
        found = next((metric for metric in known if metric.name == name), None)
        if found is None:
            names = ", ".join(metric.name for metric in known)
            message = f"{asked}: {stage} has measured no `{name}`"
            raise ComponentError(message, expected=f"one of {names}", hint=f"write {written}.NAME")
        if not found.better:
            raise ComponentError(f"{asked}: neither more nor less of `{name}` is better", hint="name another metric")
        return found

    def map(self) -> EmbeddingMap | None:
        """The map of embeddings, where there is one."""
        return json.loads(self._map.read_text()) if self._map.exists() else None


def _as_list(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"an evaluator's figures and examples hold plain data, not {type(value).__name__}")
