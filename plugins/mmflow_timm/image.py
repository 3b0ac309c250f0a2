"""Images by the transform of a timm model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from mmflow_pretrained.folders import first_line, folder_of, is_local
from mmflow_pretrained.images import LibraryImage, Size
from mmflow_pretrained.reading import reading

from mmflow.plugin import ComponentError, Field


class TimmImage(LibraryImage, name="timm_image"):
    """Images by the transform of a timm model's data configuration; in training with `augment` the library's
    augmentation, which `options` change (arguments of `timm.data.create_transform`)."""

    requires: ClassVar[tuple[str, ...]] = ("timm",)
    extra: ClassVar[str] = "timm"
    example: ClassVar[str] = "views: {ready: {of: image, apply: [{use: timm_image, hub: vit_tiny_patch16_224}]}}"

    augment: bool = Field(False, description="the library's random crop, mirror and colors in training")
    options: dict[str, Any] = Field({}, description="of that augmentation, such as {auto_augment: rand-m9-mstd0.5}")

    def made(self, training: bool) -> Callable[[Any], Any]:
        options = tuple(sorted(self.options.items())) if training and self.augment else ()
        return _timm_transform(self.hub, training and self.augment, options)

    def size(self) -> Size:
        return tuple(_timm_config(self.hub)["input_size"][1:])


@lru_cache(maxsize=16)
def _timm_config(hub: str) -> Mapping[str, Any]:
    folder = folder_of(hub, "config.json") if is_local(hub) else None
    with reading("timm", "data configuration", hub):
        import json

        import timm
        from timm.data.config import resolve_data_config
        from timm.models import load_model_config_from_hf

        if folder is not None:
            config: Any = json.loads((folder / "config.json").read_text())
            config = config.get("pretrained_cfg", config)
        elif hub.startswith("hf-hub:"):
            config = load_model_config_from_hf(hub.removeprefix("hf-hub:"))[0]
        else:
            found = timm.get_pretrained_cfg(hub, allow_unregistered=False) if timm.is_model(hub) else None
            if found is None:
                near = ", ".join(timm.list_models(f"*{hub.split('.')[0][:8]}*")[:3])
                raise ComponentError(f"timm has no model {hub!r}", hint=f"did you mean {near}?" if near else "")
            config = found.to_dict()
        return resolve_data_config(pretrained_cfg=dict(config))


@lru_cache(maxsize=16)
def _timm_transform(hub: str, augment: bool, options: tuple[tuple[str, Any], ...]) -> Any:
    from timm.data.transforms_factory import create_transform

    try:
        return create_transform(**{**_timm_config(hub), "is_training": augment, **dict(options)})
    except (TypeError, AssertionError) as error:
        raise ComponentError(f"timm cannot make this augmentation: {first_line(error)}") from error
