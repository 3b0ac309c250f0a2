"""First-party components: optimizers and schedules."""

from __future__ import annotations

from mmflow.plugin.hooks import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "optimizer/adamw": "mmflow_optim.optimizers:AdamW",
        "optimizer/adam": "mmflow_optim.optimizers:Adam",
        "optimizer/sgd": "mmflow_optim.optimizers:Sgd",
        "optimizer/lars": "mmflow_optim.optimizers:Lars",
        "value/cosine": "mmflow_optim.schedules:Cosine",
        "value/linear": "mmflow_optim.schedules:Linear",
        "value/step": "mmflow_optim.schedules:Step",
    }
