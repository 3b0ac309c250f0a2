"""First-party components: transforms of views."""

from __future__ import annotations

from mmflow.plugin.hooks import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "transform/random_resized_crop": "mmflow_views.geometry:RandomResizedCrop",
        "transform/center_crop": "mmflow_views.geometry:CenterCrop",
        "transform/resize": "mmflow_views.geometry:Resize",
        "transform/quarter_turn": "mmflow_views.geometry:QuarterTurn",
        "transform/flip": "mmflow_views.geometry:Flip",
        "transform/color_jitter": "mmflow_views.colors:ColorJitter",
        "transform/gray": "mmflow_views.colors:Gray",
        "transform/blur": "mmflow_views.colors:Blur",
        "transform/solarize": "mmflow_views.colors:Solarize",
        "transform/erase": "mmflow_views.colors:Erase",
        "transform/normalize": "mmflow_views.colors:Normalize",
        "transform/rand_augment": "mmflow_views.torchvision_transforms:RandAugment",
        "transform/torchvision": "mmflow_views.torchvision_transforms:Torchvision",
        "transform/crop_time": "mmflow_views.signals:CropTime",
        "transform/sample_frames": "mmflow_views.signals:SampleFrames",
        "transform/add_noise": "mmflow_views.signals:AddNoise",
        "transform/gain": "mmflow_views.signals:Gain",
        "transform/log_mel": "mmflow_views.signals:LogMel",
        "transform/shift_time": "mmflow_views.warping:ShiftTime",
        "transform/warp_time": "mmflow_views.warping:WarpTime",
        "transform/permute_time": "mmflow_views.warping:PermuteTime",
        "transform/reverse_time": "mmflow_views.warping:ReverseTime",
        "transform/patch_mask": "mmflow_views.masking:PatchMask",
        "transform/mask_time": "mmflow_views.masking:MaskTime",
        "transform/mask_bands": "mmflow_views.masking:MaskBands",
        "transform/mask_tokens": "mmflow_views.masking:MaskTokens",
        "transform/mixup": "mmflow_views.mixing:Mixup",
        "transform/cutmix": "mmflow_views.mixing:Cutmix",
        "transform/splice_words": "mmflow_views.mixing:SpliceWords",
        "transform/join_texts": "mmflow_views.mixing:JoinTexts",
        "transform/one_of": "mmflow_views.choices:OneOf",
        "transform/crop_words": "mmflow_views.words:CropWords",
        "transform/drop_words": "mmflow_views.words:DropWords",
        "transform/mask_words": "mmflow_views.words:MaskWords",
        "transform/swap_words": "mmflow_views.words:SwapWords",
        "transform/replace_words": "mmflow_views.words:ReplaceWords",
        "transform/template": "mmflow_views.words:Template",
        "transform/lower": "mmflow_views.words:Lower",
        "transform/class_name": "mmflow_views.words:ClassName",
        "transform/choose": "mmflow_views.words:Choose",
    }
