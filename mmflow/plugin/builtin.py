"""What the core itself registers: moving numbers, applications of weights, and the stages it must know."""

from __future__ import annotations

from mmflow.plugin.hooks import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "value/constant": "mmflow.plugin.numbers:Constant",
        "value/learned": "mmflow.plugin.numbers:Learned",
        "encoder/same": "mmflow.model.applications:Same",
        "encoder/copy": "mmflow.model.applications:Copy",
        "encoder/ema": "mmflow.model.applications:Ema",
        "encoder/frozen": "mmflow.model.applications:Frozen",
        "stage/train": "mmflow.train.stage:Train",
        "stage/embed": "mmflow.evaluate.embed:Embed",
    }
