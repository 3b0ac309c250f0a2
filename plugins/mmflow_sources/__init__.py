"""First-party components: sources of users' own data and the orders in which they are drawn."""

from __future__ import annotations

from mmflow.plugin.hooks import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "source/table": "mmflow_sources.table:Table",
        "source/digits": "mmflow_sources.digits:Digits",
        "sampler/shuffle": "mmflow_sources.samplers:Shuffle",
        "sampler/sequential": "mmflow_sources.samplers:Sequential",
    }
