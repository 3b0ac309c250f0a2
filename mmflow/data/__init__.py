"""From a declared source to batches: samples with ids, named axes, presence, views drawn at addresses, loading.

Names are imported when they are used, so that the declarations cost no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmflow.data.batches import Batch, ColumnBatch, collate, collate_values
    from mmflow.data.feed import Feed, requests_of
    from mmflow.data.loading import Loader, sample_of, scan
    from mmflow.data.samples import (
        ColumnRequest,
        count_of,
        read_column,
        read_field,
        sample_fields,
        static_columns,
        static_ids,
        whole_column,
    )

_HOMES = {
    "batches": ("Batch", "ColumnBatch", "collate", "collate_values"),
    "feed": ("Feed", "requests_of"),
    "loading": ("Loader", "sample_of", "scan"),
    "samples": (
        "ColumnRequest",
        "count_of",
        "read_column",
        "read_field",
        "sample_fields",
        "static_columns",
        "static_ids",
        "whole_column",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "ColumnBatch",
    "ColumnRequest",
    "Feed",
    "Loader",
    "collate",
    "collate_values",
    "count_of",
    "read_column",
    "read_field",
    "requests_of",
    "sample_fields",
    "sample_of",
    "scan",
    "static_columns",
    "static_ids",
    "whole_column",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
