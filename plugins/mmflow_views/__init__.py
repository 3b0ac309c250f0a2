"""Transforms of views."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "transform/random_resized_crop": "mmflow_views.images.random_resized_crop:RandomResizedCrop",
        "transform/center_crop": "mmflow_views.images.center_crop:CenterCrop",
        "transform/resize": "mmflow_views.images.resize:Resize",
        "transform/quarter_turn": "mmflow_views.images.quarter_turn:QuarterTurn",
        "transform/flip": "mmflow_views.images.flip:Flip",
        "transform/color_jitter": "mmflow_views.images.color_jitter:ColorJitter",
        "transform/gray": "mmflow_views.images.gray:Gray",
        "transform/blur": "mmflow_views.images.blur:Blur",
        "transform/solarize": "mmflow_views.images.solarize:Solarize",
        "transform/erase": "mmflow_views.images.erase:Erase",
        "transform/normalize": "mmflow_views.images.normalize:Normalize",
        "transform/rand_augment": "mmflow_views.images.torchvision_transforms:RandAugment",
        "transform/torchvision": "mmflow_views.images.torchvision_transforms:Torchvision",
        "transform/patch_mask": "mmflow_views.images.patch_mask:PatchMask",
        "transform/crop_time": "mmflow_views.time.crop_time:CropTime",
        "transform/sample_frames": "mmflow_views.time.sample_frames:SampleFrames",
        "transform/add_noise": "mmflow_views.time.loudness:AddNoise",
        "transform/gain": "mmflow_views.time.loudness:Gain",
        "transform/log_mel": "mmflow_views.time.log_mel:LogMel",
        "transform/shift_time": "mmflow_views.time.shift_time:ShiftTime",
        "transform/warp_time": "mmflow_views.time.warp_time:WarpTime",
        "transform/permute_time": "mmflow_views.time.permute_time:PermuteTime",
        "transform/reverse_time": "mmflow_views.time.reverse_time:ReverseTime",
        "transform/mask_time": "mmflow_views.time.span_masks:MaskTime",
        "transform/mask_bands": "mmflow_views.time.span_masks:MaskBands",
        "transform/token_ids": "mmflow_views.texts.token_ids:TokenIds",
        "transform/mask_tokens": "mmflow_views.texts.mask_tokens:MaskTokens",
        "transform/crop_words": "mmflow_views.texts.crop_words:CropWords",
        "transform/drop_words": "mmflow_views.texts.drop_words:DropWords",
        "transform/mask_words": "mmflow_views.texts.mask_words:MaskWords",
        "transform/swap_words": "mmflow_views.texts.swap_words:SwapWords",
        "transform/replace_words": "mmflow_views.texts.replace_words:ReplaceWords",
        "transform/template": "mmflow_views.texts.template:Template",
        "transform/lower": "mmflow_views.texts.lower:Lower",
        "transform/class_name": "mmflow_views.texts.class_name:ClassName",
        "transform/mixup": "mmflow_views.mixing.mixup:Mixup",
        "transform/cutmix": "mmflow_views.mixing.cutmix:Cutmix",
        "transform/splice_words": "mmflow_views.mixing.splice_words:SpliceWords",
        "transform/join_texts": "mmflow_views.mixing.join_texts:JoinTexts",
        "transform/one_of": "mmflow_views.choices.one_of:OneOf",
        "transform/choose": "mmflow_views.choices.choose:Choose",
    }
