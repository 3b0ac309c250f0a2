"""Shards of a data set of the `datasets` library."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from mmflow_sources.rows.hub import undecoded
from mmflow_sources.shards.reader import Row


class HubShards:
    """A data set of the `datasets` library: ranges of rows of one on disk, the shards of one from the hub."""

    in_process = False
    left_out = ()
    RANGE = 1000
    """Rows of a shard of a data set on disk."""

    def __init__(self, dataset: Any) -> None:
        import datasets

        self.on_disk = isinstance(dataset, datasets.Dataset)
        features = dataset.features or datasets.Features()
        self.dataset = undecoded(dataset)
        self.schema = features.arrow_schema if features else None
        self.count = -(-len(dataset) // self.RANGE) if self.on_disk else dataset.num_shards

    def columns(self, head: Sequence[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        names = tuple(self.dataset.features or head[0].cells)
        return names, names

    def repeated(self, id: str) -> str:
        return f"id {id!r} was there before"

    def shards(self) -> Sequence[str]:
        return [str(number) for number in range(self.count)]

    def rows(self, number: int, columns: Collection[str] | None) -> Iterator[tuple[str, Row]]:
        dataset, start, prefix = self.dataset, 0, ""
        if self.on_disk:
            start = number * self.RANGE
            dataset = dataset.select(range(start, min(start + self.RANGE, len(dataset))))
        elif self.count > 1:
            dataset, prefix = dataset.shard(num_shards=self.count, index=number), f"{number}:"
        if columns:
            dataset = dataset.select_columns(sorted(columns))
        for index, cells in enumerate(dataset, start=start):
            yield f"{prefix}{index}", Row(cells, f"shard {number}, row {index}")
