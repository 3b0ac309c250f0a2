"""Images by the transform of an open_clip model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow_pretrained.folders import first_line, folder_of, is_local

from mmflow.plugin import ComponentError, Field
from mmflow_open_clip.names import known_to_open_clip

if TYPE_CHECKING:
    pass

from mmflow_pretrained.images import LibraryImage, Size


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
    import json
    from dataclasses import asdict

    import open_clip
    from huggingface_hub import hf_hub_download
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    own: Mapping[str, Any] = {}
    if is_local(hub) or hub.startswith("hf-hub:"):
        file = "open_clip_config.json"
        path = folder_of(hub, file) / file if is_local(hub) else hf_hub_download(hub.removeprefix("hf-hub:"), file)
        config = json.loads(Path(path).read_text())
        model, own = config["model_cfg"], config.get("preprocess_cfg", {})
    else:
        known_to_open_clip(hub)
        model = open_clip.get_model_config(hub) or {}
        own = open_clip.get_pretrained_cfg(hub, pretrained) if pretrained is not None else {}
        if pretrained is not None and not own:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(hub)[:4])
            raise ComponentError(
                f"open_clip has no weights {pretrained!r} of {hub}", hint=f"it has {tags}" * bool(tags)
            )
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
