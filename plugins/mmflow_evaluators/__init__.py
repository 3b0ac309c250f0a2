"""First-party components: evaluators."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "stage/retrieval": "mmflow_evaluators.retrieval:Retrieval",
        "stage/zero_shot": "mmflow_evaluators.zero_shot:ZeroShot",
        "stage/linear_probe": "mmflow_evaluators.linear_probe:LinearProbe",
        "stage/knn": "mmflow_evaluators.knn:Knn",
        "stage/geometry": "mmflow_evaluators.geometry:Geometry",
    }
