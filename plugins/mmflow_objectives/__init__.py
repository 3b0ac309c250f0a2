"""Losses, and numbers of a batch that they use."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "loss/infonce": "mmflow_objectives.contrastive.infonce:InfoNCE",
        "loss/siglip": "mmflow_objectives.contrastive.siglip:SigLIP",
        "loss/supcon": "mmflow_objectives.contrastive.supcon:SupCon",
        "loss/caption_nll": "mmflow_objectives.prediction.caption_nll:CaptionNLL",
        "loss/cross_entropy": "mmflow_objectives.prediction.cross_entropy:CrossEntropy",
        "loss/emitted": "mmflow_objectives.prediction.emitted:EmittedValue",
        "loss/mse": "mmflow_objectives.prediction.mse:MeanSquaredError",
        "loss/flops": "mmflow_objectives.sparsity.flops:Flops",
        "loss/alignment": "mmflow_objectives.distance.alignment:Alignment",
        "loss/uniformity": "mmflow_objectives.distance.uniformity:Uniformity",
        "value/adaptive": "mmflow_objectives.numbers.adaptive:Adaptive",
        "loss/triplet": "mmflow_objectives.distance.triplet:Triplet",
    }
