"""First-party components: worlds, procedural sources with complete truth."""

from __future__ import annotations

from mmflow.plugin.hooks import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "source/shapes": "mmflow_worlds.shapes:Shapes",
        "source/motions": "mmflow_worlds.motions:Motions",
        "source/sounds": "mmflow_worlds.signals:Sounds",
        "source/series": "mmflow_worlds.signals:Series",
        "source/graphs": "mmflow_worlds.graphs:Graphs",
        "source/sentences": "mmflow_worlds.sentences:Sentences",
        "source/noisy": "mmflow_worlds.noisy:Noisy",
    }
