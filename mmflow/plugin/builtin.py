"""The core's own components: moving numbers, applications of weights, stages, data that are elsewhere, modalities."""

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
        "source/recorded": "mmflow.plugin.recorded:Recorded",
        "stage/train": "mmflow.train.stage:Train",
        "stage/embed": "mmflow.evaluate.embed:Embed",
        "stage/repeat": "mmflow.spec.components.repeat:Repeat",
        "modality/image": "mmflow.plugin.modalities:Image",
        "modality/video": "mmflow.plugin.modalities:Video",
        "modality/text": "mmflow.plugin.modalities:Text",
        "modality/audio": "mmflow.plugin.modalities:Audio",
        "modality/graph": "mmflow.plugin.modalities:Graph",
        "modality/series": "mmflow.plugin.modalities:Series",
        "modality/number": "mmflow.plugin.modalities:Number",
        "modality/label": "mmflow.plugin.modalities:Label",
        "modality/labels": "mmflow.plugin.modalities:LabelSet",
        "modality/mask": "mmflow.plugin.modalities:Mask",
        "modality/boxes": "mmflow.plugin.modalities:Boxes",
        "modality/id": "mmflow.plugin.modalities:Id",
        "modality/vector": "mmflow.plugin.modalities:Vector",
        "modality/tokens": "mmflow.plugin.modalities:TokenVectors",
        "modality/grid": "mmflow.plugin.modalities:GridVectors",
        "modality/logits": "mmflow.plugin.modalities:Logits",
        "modality/attention": "mmflow.plugin.modalities:AttentionMaps",
        "modality/index": "mmflow.plugin.modalities:RowIndex",
    }
