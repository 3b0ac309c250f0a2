"""Components of timm: its image models, and their image transforms."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "encoder/timm": "mmflow_timm.encoder:TimmEncoder",
        "transform/timm_image": "mmflow_timm.image:TimmImage",
    }
