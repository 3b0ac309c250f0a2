"""First-party components: sources of users' own data and the orders in which they are drawn."""

from __future__ import annotations

from mmflow.plugin.hooks import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "source/table": "mmflow_sources.table:Table",
        "source/folder": "mmflow_sources.groups:FolderSource",
        "source/webdataset": "mmflow_sources.groups:WebDataset",
        "source/hf_dataset": "mmflow_sources.hub:HfDataset",
        "source/arrays": "mmflow_sources.arrays:Arrays",
        "source/digits": "mmflow_sources.digits:Digits",
        "source/filter": "mmflow_sources.selections:Filter",
        "source/subset": "mmflow_sources.selections:Subset",
        "source/split": "mmflow_sources.selections:Split",
        "source/join": "mmflow_sources.selections:Join",
        "source/concat": "mmflow_sources.combinations:Concat",
        "source/mix": "mmflow_sources.combinations:Mix",
        "sampler/shuffle": "mmflow_sources.samplers:Shuffle",
        "sampler/sequential": "mmflow_sources.samplers:Sequential",
        "sampler/balanced": "mmflow_sources.label_samplers:Balanced",
        "sampler/group_batches": "mmflow_sources.label_samplers:GroupBatches",
        "sampler/episodes": "mmflow_sources.label_samplers:Episodes",
        "sampler/repeated": "mmflow_sources.label_samplers:Repeated",
        "sampler/token_budget": "mmflow_sources.budget_samplers:TokenBudget",
        "sampler/curriculum": "mmflow_sources.difficulty_samplers:Curriculum",
        "sampler/hard_neighbors": "mmflow_sources.difficulty_samplers:HardNeighbors",
    }
