"""An example of an mmflow plugin. Only this module is loaded until one of the components is used."""

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "loss/cosine_margin": "mmflow_example.margin:CosineMargin",
        "encoder/gated_linear": "mmflow_example.gated:GatedLinear",
        "stage/spread": "mmflow_example.spread:Spread",
    }
