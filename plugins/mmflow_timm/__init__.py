"""Components of timm: the image transforms of its models."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "transform/timm_image": "mmflow_timm.image:TimmImage",
    }
