"""Rows of a data set of the `datasets` library."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mmflow_sources.rows.base import magnitude


class HubRows:
    """Rows of a `datasets.Dataset`; images and sounds are given as bytes or paths, decoded by whoever reads them."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset = undecoded(dataset)
        self.names: tuple[str, ...] = tuple(dataset.column_names)
        self.fields = self.names
        self.schema = dataset.features.arrow_schema
        self.broken: dict[int, str] = {}
        self._views: dict[tuple[str, ...], Any] = {}

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_views": {}}

    def __len__(self) -> int:
        return len(self.dataset)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        return self._narrow(tuple(columns))[index]

    def column(self, name: str) -> Iterable[Any]:
        return (row[name] for row in self._narrow((name,)))

    def largest(self, name: str) -> int:
        """The largest magnitude in a column of whole numbers."""
        return magnitude(self._narrow((name,)).with_format("arrow")[:][name])

    def where(self, index: int) -> str:
        return f"row {index}"

    def _narrow(self, columns: tuple[str, ...]) -> Any:
        if columns not in self._views:
            self._views[columns] = self.dataset.select_columns(list(columns))
        return self._views[columns]


def undecoded(dataset: Any) -> Any:
    """The data set with images, sounds and videos as bytes or paths, also where a row has a list of them."""
    import datasets

    kinds = (datasets.Image, datasets.Audio, datasets.Video)
    for name, feature in (dataset.features or {}).items():
        member = getattr(feature, "feature", None)
        if isinstance(feature, kinds):
            dataset = dataset.cast_column(name, type(feature)(decode=False))
        elif isinstance(member, kinds):
            dataset = dataset.cast_column(name, datasets.List(type(member)(decode=False)))
    return dataset
