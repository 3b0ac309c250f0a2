"""First-party stages between trainings: clusters, means and codes of what was embedded, and rows that are chosen."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "stage/kmeans": "mmflow_stages.kmeans:KMeans",
        "stage/class_means": "mmflow_stages.class_means:ClassMeans",
        "stage/mixed_radix": "mmflow_stages.mixed_radix:MixedRadix",
        "stage/select": "mmflow_stages.select:Select",
    }
