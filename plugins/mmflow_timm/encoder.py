"""Image models of timm as encoders."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow_pretrained.encoders import LibraryEncoder, without_memory
from mmflow_pretrained.folders import is_local
from mmflow_pretrained.images import each_image

from mmflow.plugin import ComponentError, Field, TensorType
from mmflow_timm.description import HUB, Description, Model, described

if TYPE_CHECKING:
    from torch import nn


class TimmEncoder(LibraryEncoder, name="timm"):
    """An image model of timm (Wightman, 2019): by its name, `hf-hub:NAME`, a folder, or `config` (`architecture`, and
    arguments of `timm.create_model`).

    Outputs: `pooled`, as the model pools for its classifier; of a transformer `tokens`, its patches after the final
    norm without class token and registers; `grid` [H, W, D]; with `classifier` its `logits`. Taps: `layers.1` and on,
    what each block or stage gives (tokens of a transformer, else a grid); of a plain transformer `attention.1` and on,
    the maps [heads, L', L'] over all of its tokens. Images are prepared as the model's data configuration says.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("image", "video"),)
    extra: ClassVar[str] = "timm"
    requires: ClassVar[tuple[str, ...]] = ("timm",)
    example: ClassVar[str] = "{use: timm, of: image, hub: vit_small_patch16_224, freeze: true}"

    size: int | None = Field(None, ge=1, le=4096, description="side of the images; as the model has it by default")
    classifier: bool = Field(False, description="keep the model's classifier, as the output `logits`")

    def draws(self) -> bool:
        return self._described().drops

    def batch_statistics(self) -> bool:
        return self._described().batch_norm

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        about = self._described()
        pooled = TensorType("vector", inputs[0].axes, (about.width,), groups=inputs[0].groups)
        found = {"pooled": pooled}
        if about.sequence:
            length = about.grid[0] * about.grid[1] if about.grid is not None else None
            found["tokens"] = pooled.with_(modality="tokens", size=(length, about.channels))
        if about.grid is not None:
            found["grid"] = pooled.with_(modality="grid", size=(*about.grid, about.channels))
        if self.classifier:
            found["logits"] = pooled.with_(modality="logits", size=(about.classes,))
        kind = "tokens" if about.sequence else "grid"
        layers = {f"layers.{n}": pooled.with_(modality=kind, size=size) for n, size in enumerate(about.layers, 1)}
        every = None if about.grid is None else about.grid[0] * about.grid[1] + about.prefix
        maps = {
            f"attention.{n}": pooled.with_(modality="attention", size=(heads, every, every))
            for n, heads in enumerate(about.heads, 1)
        }
        return {**found, **layers, **maps}

    def taps(self) -> tuple[str, ...]:
        about = self._described()
        layers = tuple(f"layers.{n}" for n in range(1, len(about.layers) + 1))
        return (*layers, *(f"attention.{n}" for n in range(1, len(about.heads) + 1)))

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> Any:
        return each_image(value, _transform(self._model()), self.use)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_timm.module import encoding

        model, pretrained = self._model(), self.hub is not None and not without_memory()
        on_hub = pretrained and self.hub is not None and not is_local(self.hub)
        return encoding(model.build(pretrained=pretrained, commit=self.commit() if on_hub else None), self._described())

    def repository(self) -> str:
        assert self.hub is not None
        if self.hub.startswith(HUB):
            return self.hub.removeprefix(HUB)
        found = self._described().repository
        if not found:
            raise ComponentError(
                f"timm has no weights of {self.hub}", hint=f"write config: {{architecture: {self.hub}}}"
            )
        return found

    def _model(self) -> Model:
        return Model(self.hub, self.revision, self.written(), self.size, self.classifier)

    def _described(self) -> Description:
        return described(self._model())


@lru_cache(maxsize=16)
def _transform(model: Model) -> Any:
    from timm.data.transforms_factory import create_transform

    return create_transform(**described(model).data, is_training=False)
