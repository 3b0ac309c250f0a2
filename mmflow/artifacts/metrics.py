"""The output type `Metrics`: numbers, examples and figures of an evaluator, and the map of its embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from mmflow.plugin.component import ComponentError
from mmflow.plugin.values import Example, ItemScores, Metric
from mmflow.redaction import redacted_data

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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


class StoredItems(NamedTuple):
    """The scores float64 [N] of the items whose mean a metric is, with the id of the row that each belongs to."""

    ids: list[str]
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, items: ItemScores, ids: Sequence[str]) -> StoredItems:
        """The items of a metric that was measured on the rows `ids`."""
        import numpy as np

        rows = [ids[row] if isinstance(row, int) else str(row) for row in np.asarray(items.rows).tolist()]
        return cls(rows, np.asarray(items.scores, dtype=np.float64))


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
    """Stored metrics: `metrics.json`, `items.npz` with scores of single items, `map.json` where a map was drawn."""

    def __init__(self, output: Path) -> None:
        self._file, self._map, self._items = output / "metrics.json", output / "map.json", output / "items.npz"

    def write(
        self, content: Measured, drawn: EmbeddingMap | None = None, items: Mapping[str, StoredItems] | None = None
    ) -> None:
        """Store the content; tensors and arrays inside become lists. Raises `TypeError` for other objects."""
        self._file.write_text(json.dumps(redacted_data(content), ensure_ascii=False, indent=1, default=_as_list))
        if drawn is not None:
            self._map.write_text(json.dumps(redacted_data(drawn), ensure_ascii=False))
        if items:
            self._write_items(items)

    def _write_items(self, items: Mapping[str, StoredItems]) -> None:
        """Ids once, as JSON; of each metric the scores and the places of their ids."""
        import numpy as np

        ids: dict[str, int] = {}
        columns: dict[str, NDArray[Any]] = {}
        for number, found in enumerate(items.values()):
            rows = [ids.setdefault(id, len(ids)) for id in found.ids]
            columns |= {f"rows_{number}": np.array(rows, np.int64), f"scores_{number}": np.asarray(found.scores)}
        names = json.dumps({"metrics": list(items), "ids": redacted_data(list(ids))}, ensure_ascii=False)
        columns["names"] = np.frombuffer(names.encode(), np.uint8)
        np.savez_compressed(self._items, allow_pickle=False, **columns)

    def read(self) -> Measured:
        """The stored content; empty for a stage that measures nothing."""
        return json.loads(self._file.read_text()) if self._file.exists() else {}

    def metrics(self) -> list[Metric]:
        """The stored metrics."""
        return [Metric.read(stored) for stored in self.read().get("metrics", [])]

    def items(self) -> dict[str, StoredItems]:
        """Scores of single items by metric, of those metrics that are a mean of them."""
        if not self._items.exists():
            return {}
        import numpy as np

        with np.load(self._items, allow_pickle=False) as stored:
            names = json.loads(stored["names"].tobytes())
            return {
                metric: StoredItems([names["ids"][i] for i in stored[f"rows_{n}"].tolist()], stored[f"scores_{n}"])
                for n, metric in enumerate(names["metrics"])
            }

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
