"""Memories: state that outlives a step."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "memory/queue": "mmflow_memories.queue:Queue",
        "memory/bank": "mmflow_memories.bank:Bank",
        "memory/prototypes": "mmflow_memories.prototypes:Prototypes",
        "memory/statistics": "mmflow_memories.statistics:Statistics",
        "encoder/recall": "mmflow_memories.recall:Recall",
    }
