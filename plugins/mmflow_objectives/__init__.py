"""Losses, and numbers of a batch that they use."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "loss/infonce": "mmflow_objectives.contrastive.infonce:InfoNCE",
        "loss/siglip": "mmflow_objectives.contrastive.siglip:SigLIP",
        "loss/supcon": "mmflow_objectives.contrastive.supcon:SupCon",
        "loss/soft_infonce": "mmflow_objectives.contrastive.soft_infonce:SoftInfoNCE",
        "loss/local_contrast": "mmflow_objectives.contrastive.local_contrast:LocalContrast",
        "loss/nearest_class_mean": "mmflow_objectives.prediction.nearest_class_mean:NearestClassMean",
        "loss/swapped_codes": "mmflow_objectives.contrastive.swapped_codes:SwappedCodes",
        "loss/multi_view": "mmflow_objectives.contrastive.multi_view:MultiView",
        "loss/volume_contrast": "mmflow_objectives.contrastive.volume:VolumeContrast",
        "loss/caption_nll": "mmflow_objectives.prediction.caption_nll:CaptionNLL",
        "loss/cross_entropy": "mmflow_objectives.prediction.cross_entropy:CrossEntropy",
        "loss/binary_cross_entropy": "mmflow_objectives.prediction.binary_cross_entropy:BinaryCrossEntropy",
        "loss/emitted": "mmflow_objectives.prediction.emitted:EmittedValue",
        "loss/mse": "mmflow_objectives.prediction.mse:MeanSquaredError",
        "loss/flops": "mmflow_objectives.sparsity.flops:Flops",
        "loss/alignment": "mmflow_objectives.distance.alignment:Alignment",
        "loss/cross_correlation": "mmflow_objectives.redundancy.cross_correlation:CrossCorrelation",
        "loss/cosine_distance": "mmflow_objectives.distance.cosine_distance:CosineDistance",
        "loss/uniformity": "mmflow_objectives.distance.uniformity:Uniformity",
        "value/adaptive": "mmflow_objectives.numbers.adaptive:Adaptive",
        "loss/triplet": "mmflow_objectives.distance.triplet:Triplet",
    }
