"""First-party sources of synthetic data: samples drawn when they are asked for, with complete truth."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "source/shapes": "mmflow_synthetic.shapes:Shapes",
        "source/motions": "mmflow_synthetic.motions:Motions",
        "source/sounds": "mmflow_synthetic.sounds:Sounds",
        "source/series": "mmflow_synthetic.series:Series",
        "source/graphs": "mmflow_synthetic.graphs:Graphs",
        "source/sentences": "mmflow_synthetic.sentences:Sentences",
        "source/noisy": "mmflow_synthetic.noisy:Noisy",
    }
