"""The towers of open_clip models as encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from mmflow_pretrained.encoders import LibraryEncoder, without_memory
from mmflow_pretrained.folders import is_local
from mmflow_pretrained.images import each_image
from pydantic import model_validator

from mmflow.plugin import ComponentError, Exported, Field, TensorType
from mmflow_open_clip.configuration import HUB
from mmflow_open_clip.description import Description, Model, described
from mmflow_open_clip.exporting import FORM, export
from mmflow_open_clip.tokenizer import OpenClipTokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


class OpenClipEncoder(LibraryEncoder, name="open_clip"):
    """A tower of an open_clip model (Ilharco et al., 2021): by a name that the library lists with the tag of its
    weights (`pretrained`), `hf-hub:NAME`, a folder, or `config` (`embed_dim`, `vision_cfg`, `text_cfg`).

    Outputs: `pooled`, the projected vector, not normalized; `tokens` before the projection, after the final norm, of an
    image without the class token, with the `grid` on which they lie; of a text `ids`. Taps, of open_clip's own
    transformers: `layers.1` and on, the tokens behind each block; `attention.1` and on, the maps [heads, L', L'] over
    all tokens. Images and texts are prepared as the model's configuration says.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("image", "video", "text"),)
    extra: ClassVar[str] = "open_clip"
    requires: ClassVar[tuple[str, ...]] = ("open_clip",)
    example: ClassVar[str] = "{use: open_clip, tower: image, of: image, hub: ViT-B-32, pretrained: laion2b_s34b_b79k}"

    tower: Literal["image", "text"]
    pretrained: str | None = Field(None, description="the tag of the weights of a name that the library lists")
    size: int | None = Field(None, ge=1, le=4096, description="side of the images; as the model has it by default")

    @model_validator(mode="after")
    def _tagged(self) -> Self:
        listed = self.hub is not None and not is_local(self.hub) and not self.hub.startswith(HUB)
        if self.pretrained is not None and not listed:
            raise ValueError(
                "`pretrained` is the tag of a name that open_clip lists; a folder or repository has its own"
            )
        return self

    def batch_statistics(self) -> bool:
        return self._described().batch_norm

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        modality = inputs[0].modality
        if modality != "unknown" and (modality == "text") != (self.tower == "text"):
            raise ComponentError(f"the {self.tower} tower cannot read {modality}", hint=f"name {_READS[self.tower]}")
        about = self._described()
        if self.hub is not None and not is_local(self.hub):
            self._model().repository()
        pooled = TensorType("vector", inputs[0].axes, (about.width,), groups=inputs[0].groups)
        found = {"pooled": pooled}
        tokens = pooled.with_(modality="tokens", size=(about.length, about.channels))
        if self.tower == "text":
            tokens = tokens.with_(vocabulary=about.vocabulary)
            found["ids"] = tokens.with_(size=(about.context,), dtype="int64")
        if about.channels is not None:
            found["tokens"] = tokens
        if about.grid is not None:
            found["grid"] = pooled.with_(modality="grid", size=(*about.grid, about.channels))
        every = None if about.length is None else about.length + about.before + about.behind
        for number, heads in enumerate(about.heads, 1):
            found[f"layers.{number}"] = tokens
            found[f"attention.{number}"] = pooled.with_(modality="attention", size=(heads, every, every))
        return found

    def taps(self) -> tuple[str, ...]:
        numbers = range(1, len(self._described().heads) + 1)
        return (*(f"layers.{n}" for n in numbers), *(f"attention.{n}" for n in numbers))

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> Any:
        if isinstance(value, str):
            return self._tokenizer().encode(value, {}, length=self._described().context)
        return each_image(value, _transform(self._model()), self.use) if self.tower == "image" else value

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_open_clip.module import encoding, tower_of

        whole = self._model().build(weights=self.hub is not None and not without_memory())
        padding = self._tokenizer().special.get("padding", 0) if self.tower == "text" else 0
        return encoding(tower_of(whole, self.tower), self._described(), padding)

    def forms(self) -> tuple[str, ...]:
        return (FORM,)

    def export(self, form: str, folder: Path, parts: Sequence[Exported]) -> str:
        return export(folder, parts, self._model())

    def repository(self) -> str:
        return self._model().repository()

    def _tokenizer(self) -> OpenClipTokenizer:
        if self.hub is not None:
            return OpenClipTokenizer(hub=self.hub)
        if (self.config or {}).get("text_cfg", {}).get("hf_tokenizer_name"):
            raise ComponentError("the tokenizer of this configuration is not open_clip's own", hint="name a folder")
        return OpenClipTokenizer()

    def _model(self) -> Model:
        return Model(self.hub, self.revision, self.pretrained, self.written(), self.size)

    def _described(self) -> Description:
        return described(self._model(), self.tower)


_READS: Mapping[str, str] = {"image": "an image", "text": "a text"}


@lru_cache(maxsize=16)
def _transform(model: Model) -> Any:
    from dataclasses import asdict

    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    configuration, images = model.configuration()
    merged = merge_preprocess_dict(asdict(PreprocessCfg()), dict(images))
    merged["size"] = configuration["vision_cfg"].get("image_size", merged["size"])
    return image_transform_v2(PreprocessCfg(**merged), is_train=False)
