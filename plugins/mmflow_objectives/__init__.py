"""First-party components: losses, scores and memories."""

from __future__ import annotations

from mmflow.plugin.hooks import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "loss/infonce": "mmflow_objectives.contrastive:InfoNCE",
        "loss/siglip": "mmflow_objectives.contrastive:SigLIP",
        "loss/supcon": "mmflow_objectives.contrastive:SupCon",
        "loss/caption_nll": "mmflow_objectives.likelihood:CaptionNLL",
        "loss/cross_entropy": "mmflow_objectives.likelihood:CrossEntropy",
        "loss/mse": "mmflow_objectives.likelihood:MeanSquaredError",
        "loss/alignment": "mmflow_objectives.geometry:Alignment",
        "loss/uniformity": "mmflow_objectives.geometry:Uniformity",
        "loss/triplet": "mmflow_objectives.geometry:Triplet",
        "score/cosine": "mmflow_objectives.scores:Cosine",
        "score/dot": "mmflow_objectives.scores:Dot",
        "score/neg_sq_euclid": "mmflow_objectives.scores:NegativeSquaredEuclidean",
        "score/maxsim": "mmflow_objectives.scores:MaxSim",
        "memory/queue": "mmflow_objectives.memories:Queue",
    }
