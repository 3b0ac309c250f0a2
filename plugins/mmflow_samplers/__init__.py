"""First-party samplers: the orders in which the samples of a source are drawn."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "sampler/shuffle": "mmflow_samplers.shuffle:Shuffle",
        "sampler/sequential": "mmflow_samplers.sequential:Sequential",
        "sampler/subset": "mmflow_samplers.subset:Subset",
        "sampler/balanced": "mmflow_samplers.balanced:Balanced",
        "sampler/group_batches": "mmflow_samplers.group_batches:GroupBatches",
        "sampler/episodes": "mmflow_samplers.episodes:Episodes",
        "sampler/repeated": "mmflow_samplers.repeated:Repeated",
        "sampler/token_budget": "mmflow_samplers.token_budget:TokenBudget",
        "sampler/curriculum": "mmflow_samplers.curriculum:Curriculum",
        "sampler/hard_neighbors": "mmflow_samplers.hard_neighbors:HardNeighbors",
        "sampler/hard_neighbours": "sampler/hard_neighbors",
    }
