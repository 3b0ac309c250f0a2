"""The output type `Metrics`: what an evaluator has measured and shows, and the map of its embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsArtifact:
    """Stored metrics.

    `metrics.json` holds `metrics` (`name`, `value`, `chance`, `better`, `unit`, `spread`), `examples`, `figures`, the
    number of `rows`, the entry `data` that was measured on, all entries in `reads`, and `skipped` samples by id.
    `map.json` holds `points`, `ids`, `group`, `label`, `joint` and `explained`, where a map was drawn.
    """

    def __init__(self, output: Path) -> None:
        self._file, self._map = output / "metrics.json", output / "map.json"

    def write(self, content: Mapping[str, Any], drawn: Mapping[str, Any] | None = None) -> None:
        """Store what was measured; tensors and arrays inside become lists. Raises `TypeError` for other objects."""
        self._file.write_text(json.dumps(content, ensure_ascii=False, indent=1, default=_as_list))
        if drawn is not None:
            self._map.write_text(json.dumps(drawn, ensure_ascii=False))

    def read(self) -> dict[str, Any]:
        """What was measured; empty where nothing was."""
        return json.loads(self._file.read_text()) if self._file.exists() else {}

    def map(self) -> dict[str, Any] | None:
        """The map of embeddings, where there is one."""
        return json.loads(self._map.read_text()) if self._map.exists() else None


def _as_list(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"an evaluator's figures and examples hold plain data, not {type(value).__name__}")
