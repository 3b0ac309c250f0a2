"""First-party sources: data of users, and sources made of other sources."""

from __future__ import annotations

from typing import Any

from mmflow.plugin import TensorType, hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "source/table": "mmflow_sources.table:Table",
        "source/folder": "mmflow_sources.folder:FolderSource",
        "source/webdataset": "mmflow_sources.webdataset:WebDataset",
        "source/hf_dataset": "mmflow_sources.hub:HfDataset",
        "source/arrays": "mmflow_sources.arrays:Arrays",
        "source/digits": "mmflow_sources.digits:Digits",
        "source/filter": "mmflow_sources.filter:Filter",
        "source/subset": "mmflow_sources.subset:Subset",
        "source/split": "mmflow_sources.split:Split",
        "source/join": "mmflow_sources.join:Join",
        "source/beside": "mmflow_sources.beside:Beside",
        "source/concat": "mmflow_sources.combinations:Concat",
        "source/mix": "mmflow_sources.combinations:Mix",
    }


@hookimpl
def mmflow_decode(modality: str, content: Any, declared: TensorType) -> Any:
    from mmflow_sources.decoding.given import decoded

    return decoded(modality, content, declared)


@hookimpl
def mmflow_source_at(url: str) -> dict[str, Any] | None:
    from mmflow_sources.access.told import source_at

    return source_at(url)
