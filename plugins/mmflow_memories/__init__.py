"""Memories: state that outlives a step."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "memory/queue": "mmflow_memories.queue:Queue",
    }
