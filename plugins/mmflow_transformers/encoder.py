"""Models of transformers as encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmflow_encoders.images.fitting import fit_image
from mmflow_pretrained.encoders import LibraryEncoder, without_memory
from mmflow_pretrained.images import each_image

from mmflow.plugin import ComponentError, Encoded, Encoding, Exported, Field, RawField, Refs, TensorType, Tokenizer
from mmflow_transformers.description import Description, Model, Tower, described
from mmflow_transformers.exporting import export, forms_of
from mmflow_transformers.loading import load
from mmflow_transformers.tokenizer import HfTokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

LONGEST = 512
"""Ids of a text at most, where the configuration sets no smaller limit."""
_READERS: Mapping[str, tuple[str, ...]] = {
    "pixel_values": ("image", "video"), "input_ids": ("text", "tokens"), "input_values": ("audio", "series"),
    "input_features": ("audio", "series"),
}  # fmt: skip


class TransformersEncoder(LibraryEncoder, name="transformers"):
    """A model of transformers (Wolf et al., 2020) for images, texts or sounds: by name on the hub, folder, or `config`
    (`model_type` and its fields). `tower` chooses one of a model that has several (CLIP, SigLIP); of an encoder-decoder
    (Whisper, T5) the encoder is taken.

    Outputs: `pooled`; `tokens`, the last states with their mask, of an image its patches, with the `grid` on which they
    lie; of a text `ids`. Taps: `layers.1` and on, the states behind each block; `attention.1` and on, the maps
    [heads, L', L'] over all tokens; with `lm_head` `logits` [L, V], which `caption_nll` compares with
    `targets: NAME.ids`, and those of a masked model with the targets of `mask_tokens` (`shift: 0`).

    `pool: library` is the model's own pooling (with a tower its projection), without one the last token of a causal
    model, else the mean of the real tokens; `mean`, `last`, `cls` replace it. Images, texts and sounds are prepared by
    the model's processor, feature extractor or tokenizer; with `config` images are cropped and brought to [-1, 1],
    texts need `tokenizer`, and sounds pass as they are. Ids of a view pass as they are, too.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("image", "video", "text", "tokens", "audio", "series"),)
    extra: ClassVar[str] = "hf"
    requires: ClassVar[tuple[str, ...]] = ("transformers",)
    example: ClassVar[str] = "{use: transformers, of: caption, hub: ./bert-tiny, pool: mean}"

    tower: Tower | None = None
    pool: Literal["library", "mean", "last", "cls"] = "library"
    tokenizer: Tokenizer | None = Field(None, description="in place of the model's own")
    length: int | None = Field(None, ge=2, le=1_000_000, description="ids of a text at most; 512 or the model's limit")
    lm_head: bool = Field(False, description="with the language modeling head, causal or masked: the tap `logits`")
    rate: int = Field(16_000, ge=1, le=10_000_000, description="samples a second of sounds; must be the model's")

    def draws(self) -> bool:
        return self.description().drops

    def batch_statistics(self) -> bool:
        return self.description().batch_norm

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        about = self._checked(inputs[0])
        pooled = TensorType("vector", inputs[0].axes, (self._width(),), groups=inputs[0].groups)
        tokens = pooled.with_(modality="tokens", size=(about.length, about.channels))
        found = {"pooled": pooled, "tokens": tokens}
        if about.reads == "input_ids":
            vocabulary = about.vocabulary if self.tokenizer is None else self.tokenizer.size(None)
            found["tokens"] = tokens = tokens.with_(vocabulary=vocabulary)
            found["ids"] = tokens.with_(size=(None,), dtype="int64")
            if self.lm_head:
                found["logits"] = tokens.with_(modality="logits", size=(None, about.vocabulary))
        if about.grid is not None:
            found["grid"] = pooled.with_(modality="grid", size=(*about.grid, about.channels))
        every = None if about.length is None else about.length + about.prefix
        for number in range(1, about.depth + 1):
            found[f"layers.{number}"] = tokens
            found[f"attention.{number}"] = pooled.with_(modality="attention", size=(about.heads or None, every, every))
        return found

    def taps(self) -> tuple[str, ...]:
        numbers = range(1, self.description().depth + 1)
        logits = ("logits",) if self.lm_head else ()
        return (*(f"layers.{n}" for n in numbers), *(f"attention.{n}" for n in numbers), *logits)

    def learns(self) -> tuple[int, ...]:
        return (0,) if self.tokenizer is not None and self.tokenizer.learns else ()

    def learn(self, index: int, values: Any) -> dict[str, Any]:
        assert self.tokenizer is not None
        return self.tokenizer.learn(values)

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> Any:
        about = self.description()
        if isinstance(value, str):
            return self._tokenizer().encode(value, state, length=self.context())
        if about.reads == "pixel_values":
            return each_image(value, _images(self._model()), self.use)
        return self._sound(value) if about.reads in ("input_values", "input_features") else value

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_transformers.module import encoding

        weights = self.hub is not None and not without_memory()
        model = self._model().build(commit=self.commit_on_hub() if weights else None, weights=weights)
        text = self.description().reads == "input_ids"
        padding = self._tokenizer().special.get("padding", self.description().padding) if text else 0
        return encoding(model, self.description(), self.tower, self.pool, padding, language=self.lm_head)

    def _checked(self, given: TensorType) -> Description:
        """The description, once the input fits it."""
        about = self.description()
        if about.frames is not None:
            raise ComponentError(f"{self._model().shown} reads videos", hint="write `use: transformers_video`")
        wanted = _READERS[about.reads]
        if self.lm_head and (self.tower is not None or about.reads != "input_ids"):
            raise ComponentError(f"{self._model().shown} predicts no tokens of a text here", hint="leave `lm_head` out")
        if given.modality == "tokens" and len(given.size) != 1:
            raise ComponentError("`transformers` reads ids of tokens", found="vectors", hint="name a text or its ids")
        if given.modality != "unknown" and given.modality not in wanted:
            raise ComponentError(f"{self._model().shown} cannot read {given.modality}", hint=f"name {wanted[0]}")
        if about.reads == "input_ids":
            self._tokenizer()
        elif self.tokenizer is not None:
            raise ComponentError(f"{self._model().shown} reads no texts", hint="leave `tokenizer` out")
        if given.rate not in (None, self.rate):
            raise ComponentError(
                f"sounds of {given.rate} samples a second, `rate` is {self.rate}", hint="resample them"
            )
        return about

    def _width(self) -> int:
        about = self.description()
        return about.width if self.pool == "library" else about.channels

    def forms(self) -> tuple[str, ...]:
        return forms_of(self, self.description())

    def export(self, form: str, folder: Path, parts: Sequence[Exported]) -> str:
        return export(self, form, folder, parts, self._model())

    def context(self) -> int:
        """Ids of a text at most."""
        limit = self.description().context
        wanted = self.length or LONGEST
        return wanted if limit is None else min(wanted, limit)

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is not None:
            return self.tokenizer
        if self.hub is None:
            raise ComponentError("a text model that is written out needs a tokenizer", hint="write `tokenizer:`")
        return HfTokenizer(hub=self.hub, revision=self.revision)

    def _sound(self, value: Any) -> Any:
        import numpy as np

        if self.hub is None or getattr(value, "ndim", 0) != 1:
            return value
        extractor = load("AutoFeatureExtractor", self.hub, self.revision)
        if extractor.sampling_rate != self.rate:
            raise ComponentError(f"{self.hub} wants {extractor.sampling_rate} samples a second, `rate` is {self.rate}")
        found = extractor(value, sampling_rate=self.rate, return_tensors="np")
        return np.asarray(found[self.description().reads][0], dtype=np.float32)

    def _model(self) -> Model:
        return Model(self.hub, self.revision, self.written(), self.tower, self.pool == "library", self.lm_head)

    def description(self) -> Description:
        """The outputs of the model, and what it reads."""
        return described(self._model())


class TransformersVideo(TransformersEncoder, name="transformers_video"):
    """A video model of transformers (VideoMAE, TimeSformer, ViViT): a clip with the axis `frame` becomes one vector.

    Outputs and taps as those of `transformers`; `tokens` are the patches of the clip in the library's order. A clip
    must have as many frames as the model is made for: the view `sample_frames` takes that many.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("video", "image"),)
    axes: ClassVar[tuple[str, ...]] = ("frame",)
    example: ClassVar[str] = "{use: transformers_video, of: clip, hub: ./videomae-tiny}"

    of: Refs[Encoded | RawField] = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]

    def presence(self, inputs: Sequence[Encoding]) -> Tensor | None:
        present = inputs[0].present
        return None if present is None else present.any(dim=-1)

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        video = inputs[0]
        if "frame" not in video.axes[1:]:
            found, hint = (
                f"{video.modality} with the axes {', '.join(video.axes)}",
                "`transformers` reads single images",
            )
            raise ComponentError(
                "transformers_video takes a video", found=found, expected="the axis 'frame'", hint=hint
            )
        place = video.axes.index("frame")
        axes = (*video.axes[:place], *video.axes[place + 1 :])
        groups = (*video.groups[: place - 1], *video.groups[place:])
        return super().outputs(video.with_(axes=axes, groups=groups))

    def _checked(self, given: TensorType) -> Description:
        about = self.description()
        if about.frames is None:
            raise ComponentError(f"{self._model().shown} reads no videos", hint="write `use: transformers`")
        return about


@lru_cache(maxsize=16)
def _images(model: Model) -> Any:
    """The function from a PIL image to an array [3, H, W]."""
    import numpy as np

    if model.hub is not None:
        processor = load("AutoImageProcessor", model.hub, model.revision)

        def processed(image: Any) -> Any:
            pixels = processor(image, return_tensors="pt")["pixel_values"]
            return pixels.reshape(pixels.shape[-3:])

        return processed
    size = described(model).size
    if size is None or size[0] != size[1]:
        raise ComponentError("the configuration does not say the size of its images", hint="name a folder")

    def cropped(image: Any) -> Any:
        pixels = fit_image(np.asarray(image), size[0], 3, squash=False)
        return np.moveaxis(pixels.astype(np.float32) / 127.5 - 1, 2, 0)

    return cropped
