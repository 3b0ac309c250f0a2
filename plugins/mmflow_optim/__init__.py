"""Optimizers, schedules, and sets in which weights stay."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "optimizer/adamw": "mmflow_optim.optimizers.adam:AdamW",
        "optimizer/adam": "mmflow_optim.optimizers.adam:Adam",
        "optimizer/sgd": "mmflow_optim.optimizers.sgd:Sgd",
        "optimizer/lars": "mmflow_optim.optimizers.lars:Lars",
        "constraint/unit_rows": "mmflow_optim.constraints.unit_rows:UnitRows",
        "constraint/simplex_rows": "mmflow_optim.constraints.simplex_rows:SimplexRows",
        "constraint/simplex": "constraint/simplex_rows",
        "constraint/bounds": "mmflow_optim.constraints.bounds:WithinBounds",
        "constraint/orthogonal": "mmflow_optim.constraints.orthogonal:Orthogonal",
        "value/cosine": "mmflow_optim.schedules.cosine:Cosine",
        "value/linear": "mmflow_optim.schedules.linear:Linear",
        "value/step": "mmflow_optim.schedules.step:Step",
    }
