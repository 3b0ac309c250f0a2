"""Preprocessing of other libraries' models as transforms: pictures and sounds exactly as the library makes them.

In a view they stand last; an encoder of such a model applies one by default: `HfImage(hub=...).apply(value, None)`.
A picture is uint8 [H, W, 1, 3 or 4] (or floats in [0, 1], as mixed pictures are) and becomes float32 [C, H, W]; one
that already has this form passes as it is. Clips and groups are processed picture by picture with one draw for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.data.random import global_generators
from mmflow.plugin import ComponentError, Field, TensorType, Transform, outside_identity
from mmflow_encoders.pretrained import contents, first_line, folder_of, is_local, known_to_open_clip

if TYPE_CHECKING:
    import numpy as np

Size = tuple[int | None, int | None]


class LibraryImage(Transform):
    """Base of the transforms that a library makes: write `made` and `size`."""

    hub: str = outside_identity(description="a folder with the model's configuration, or a name that the library knows")

    def fingerprint(self) -> Any:
        return contents(self.hub, getattr(self, "revision", None))

    def made(self, training: bool) -> Callable[[Any], Any]:
        """The library's own function from a PIL picture to a tensor [C, H, W]; kept once it is made."""
        raise NotImplementedError

    def size(self) -> Size:
        """Height and width of what comes out, None where they depend on the picture."""
        raise NotImplementedError

    def apply(self, value: Any, generator: Any) -> Any:
        if isinstance(value, Mapping):
            raise ValueError(f"{self.use} takes one field: give it a view of its own")
        function = self.made(generator is not None)
        seed = None if generator is None else int(generator.integers(2**32))
        return self._each(value, function, seed)

    def _each(self, value: Any, function: Callable[[Any], Any], seed: int | None) -> Any:
        import numpy as np

        if isinstance(value, list):
            return [None if member is None else self._each(member, function, seed) for member in value]
        array = np.asarray(value)
        if array.ndim == 4:
            return np.stack([self._each(frame, function, seed) for frame in array])
        if array.ndim == 3 and array.dtype.kind == "f" and array.shape[0] in (1, 3) and array.shape[2] > 4:
            return array
        picture = as_picture(array, self.use)
        with global_generators(seed):
            return np.asarray(function(picture), dtype=np.float32)

    def result(self, field: TensorType) -> TensorType:
        if field.modality not in ("image", "video"):
            raise ValueError(f"{self.use} needs pictures, got {field.modality}")
        self.made(training=True)
        return field.with_(size=(*field.size[:-3], *self.size(), 3), dtype="float32")


class HfImage(LibraryImage, name="hf_image"):
    """Pictures by the image processor of a transformers model, the same in training and evaluation."""

    requires: ClassVar[tuple[str, ...]] = ("transformers",)
    extra: ClassVar[str] = "hf"
    example: ClassVar[str] = "views: {picture: {of: image, apply: [flip, {use: hf_image, hub: ./clip-tiny}]}}"

    revision: str | None = Field(None, description="of the hub's repository")

    def made(self, training: bool) -> Callable[[Any], Any]:
        processor = _hf("AutoImageProcessor", self.hub, self.revision)
        return lambda picture: processor(picture, return_tensors="pt")["pixel_values"][0]

    def size(self) -> Size:
        processor = _hf("AutoImageProcessor", self.hub, self.revision)
        cropped = getattr(processor, "do_center_crop", False)
        size: Any = processor.crop_size if cropped else processor.size if getattr(processor, "do_resize", False) else {}
        return size.get("height"), size.get("width")


class TimmImage(LibraryImage, name="timm_image"):
    """Pictures by the transform of a timm model's data configuration; in training with `augment` the library's
    augmentation, which `options` change (arguments of `timm.data.create_transform`)."""

    requires: ClassVar[tuple[str, ...]] = ("timm",)
    extra: ClassVar[str] = "timm"
    example: ClassVar[str] = "views: {picture: {of: image, apply: [{use: timm_image, hub: vit_tiny_patch16_224}]}}"

    augment: bool = Field(False, description="the library's random crop, mirror and colors in training")
    options: dict[str, Any] = Field({}, description="of that augmentation, such as {auto_augment: rand-m9-mstd0.5}")

    def made(self, training: bool) -> Callable[[Any], Any]:
        options = tuple(sorted(self.options.items())) if training and self.augment else ()
        return _timm_transform(self.hub, training and self.augment, options)

    def size(self) -> Size:
        return tuple(_timm_config(self.hub)["input_size"][1:])


class OpenClipImage(LibraryImage, name="open_clip_image"):
    """Pictures by the transform of an open_clip model; in training with `augment` the library's augmentation, which
    `options` change (fields of its `AugmentationCfg`)."""

    requires: ClassVar[tuple[str, ...]] = ("open_clip",)
    extra: ClassVar[str] = "open_clip"
    example: ClassVar[str] = "views: {picture: {of: image, apply: [{use: open_clip_image, hub: ViT-B-32}]}}"

    pretrained: str | None = Field(None, description="the tag of the weights, where their preprocessing differs")
    augment: bool = Field(False, description="the library's random crop in training")
    options: dict[str, Any] = Field({}, description="of that augmentation, such as {scale: [0.5, 1.0]}")

    def made(self, training: bool) -> Callable[[Any], Any]:
        options = tuple(sorted(self.options.items())) if training and self.augment else ()
        return _open_clip_transform(self.hub, self.pretrained, training and self.augment, _hashable(options))

    def size(self) -> Size:
        size = _open_clip_config(self.hub, self.pretrained)["size"]
        return (size, size) if isinstance(size, int) else tuple(size)


class HfAudio(Transform, name="hf_audio"):
    """Sounds [T] by the feature extractor of a transformers model: float32 [T'] or [frames, bands] as it gives them."""

    requires: ClassVar[tuple[str, ...]] = ("transformers",)
    extra: ClassVar[str] = "hf"
    example: ClassVar[str] = "views: {sound: {of: audio, apply: [{use: hf_audio, hub: ./wav2vec2-tiny, rate: 16000}]}}"

    hub: str = outside_identity(description="a folder with the model's configuration, or a name on the hub")
    revision: str | None = Field(None, description="of the hub's repository")
    rate: int = Field(16_000, ge=1, description="samples a second of the sound; must be the model's")

    def fingerprint(self) -> Any:
        return contents(self.hub, self.revision)

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        if not isinstance(value, np.ndarray) or value.ndim != 1:
            raise ValueError(f"hf_audio needs a sound [T], got {getattr(value, 'shape', type(value).__name__)}")
        found = _hf("AutoFeatureExtractor", self.hub, self.revision)(
            value, sampling_rate=self.rate, return_tensors="np"
        )  # fmt: skip
        name = next(iter(found.keys() & {"input_values", "input_features"}))
        return np.asarray(found[name][0], dtype=np.float32)

    def result(self, field: TensorType) -> TensorType:
        if field.modality not in ("audio", "series"):
            raise ValueError(f"hf_audio needs a sound, got {field.modality}")
        extractor = _hf("AutoFeatureExtractor", self.hub, self.revision)
        if extractor.sampling_rate != self.rate:
            raise ValueError(f"the model wants {extractor.sampling_rate} samples a second, `rate` is {self.rate}")
        if extractor.model_input_names[0] == "input_values":
            return field.with_(modality="audio", size=(None,))
        return field.with_(modality="series", size=(None, None))


def as_picture(array: np.ndarray, use: str) -> Any:
    """A raw picture as a PIL picture in color."""
    import numpy as np
    from PIL import Image

    if array.ndim == 3 and array.dtype.kind == "f" and array.shape[2] in (1, 3, 4):
        array = np.rint(array * 255).clip(0, 255).astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(
            f"{use} needs a picture (uint8, height x width x channels), got {array.dtype} {[*array.shape]}"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array).convert("RGB")


@lru_cache(maxsize=16)
def _hf(kind: str, hub: str, revision: str | None) -> Any:
    import transformers

    where = str(folder_of(hub)) if is_local(hub) else hub
    try:
        return getattr(transformers, kind).from_pretrained(where, revision=revision)
    except (OSError, ValueError) as error:
        what = {"AutoImageProcessor": "image processor", "AutoFeatureExtractor": "feature extractor"}[kind]
        raise ComponentError(f"transformers finds no {what} in {hub}: {first_line(error)}") from error


@lru_cache(maxsize=16)
def _timm_config(hub: str) -> Mapping[str, Any]:
    import json

    import timm
    from timm.data.config import resolve_data_config
    from timm.models import load_model_config_from_hf

    if is_local(hub):
        config: Any = json.loads((folder_of(hub, "config.json") / "config.json").read_text())
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
