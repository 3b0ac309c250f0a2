"""Images by the transform of an open_clip model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from mmflow_pretrained.folders import first_line
from mmflow_pretrained.images import LibraryImage, Size
from mmflow_pretrained.reading import reading

from mmflow.plugin import ComponentError, Field
from mmflow_open_clip.configuration import configuration_of


class OpenClipImage(LibraryImage, name="open_clip_image"):
    """Images by the transform of an open_clip model; in training with `augment` the library's augmentation, which
    `options` change (fields of its `AugmentationCfg`)."""

    requires: ClassVar[tuple[str, ...]] = ("open_clip",)
    extra: ClassVar[str] = "open_clip"
    example: ClassVar[str] = "views: {ready: {of: image, apply: [{use: open_clip_image, hub: ViT-B-32}]}}"

    pretrained: str | None = Field(None, description="the tag of the weights, where their preprocessing differs")
    augment: bool = Field(False, description="the library's random crop in training")
    options: dict[str, Any] = Field({}, description="of that augmentation, such as {scale: [0.5, 1.0]}")

    def made(self, training: bool) -> Callable[[Any], Any]:
        options = tuple(sorted(self.options.items())) if training and self.augment else ()
        return _open_clip_transform(self.hub, self.pretrained, training and self.augment, _hashable(options))

    def size(self) -> Size:
        size = _open_clip_config(self.hub, self.pretrained)["size"]
        return (size, size) if isinstance(size, int) else tuple(size)


@lru_cache(maxsize=16)
def _open_clip_config(hub: str, pretrained: str | None) -> Mapping[str, Any]:
    from dataclasses import asdict

    model, own = configuration_of(hub, pretrained)
    with reading("open_clip", "preprocessing", hub):
        from open_clip.transform import PreprocessCfg, merge_preprocess_dict

        merged = merge_preprocess_dict(asdict(PreprocessCfg()), dict(own))
    size = model.get("vision_cfg", {}).get("image_size", merged["size"])
    return {**merged, "size": size if isinstance(size, int) else tuple(size)}


@lru_cache(maxsize=16)
def _open_clip_transform(hub: str, pretrained: str | None, augment: bool, options: tuple[tuple[str, Any], ...]) -> Any:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = PreprocessCfg(**_open_clip_config(hub, pretrained))
    try:
        return image_transform_v2(config, is_train=augment, aug_cfg=dict(options) or None)
    except (TypeError, AssertionError) as error:
        raise ComponentError(f"open_clip cannot make this augmentation: {first_line(error)}") from error


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value
