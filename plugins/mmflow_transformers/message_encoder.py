"""Vision-language models of transformers as encoders of messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from mmflow_pretrained.bounds import described_within_bounds
from mmflow_pretrained.encoders import LibraryEncoder, without_memory
from mmflow_pretrained.folders import contents
from pydantic import model_validator

from mmflow.plugin import ComponentError, Field, TensorType, outside_identity
from mmflow_transformers.chat import prepared
from mmflow_transformers.description import Model
from mmflow_transformers.loading import load

if TYPE_CHECKING:
    from torch import nn


class TransformersMessage(LibraryEncoder, name="transformers_message"):
    """A vision-language model of transformers (Qwen-VL, LLaVA, Idefics and their kind) as an embedder of messages:
    images and texts in one sequence, with an instruction, through the model's own processor and chat template.

    It reads what the transform `message` writes of a view, or a single image or text. Outputs: `pooled`, the `last`
    state or the `mean` of all; `tokens`, the last states of the language model with their mask; `ids`. Taps: `layers.1`
    and on, the states behind each of its blocks; `attention.1` and on, the maps [heads, L, L]; with `lm_head` `logits`
    [L, V] (`caption_nll` with `targets: NAME.ids`). Two sides with one model: `{use: same, weights: query, of:
    shown.message}`. With `config` the weights are random, and `processor` names a folder.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("message", "image", "text"),)
    extra: ClassVar[str] = "hf"
    requires: ClassVar[tuple[str, ...]] = ("transformers",)
    untraceable: ClassVar[bool] = True
    example: ClassVar[str] = "{use: transformers_message, of: asked.message, hub: ./qwen-vl-tiny, lora: {rank: 8}}"

    pool: Literal["last", "mean"] = Field("last", description="the last state, or the mean of all")
    processor: str | None = outside_identity(None, description="folder or hub name of another processor")
    generation_prompt: bool = Field(False, description="end the prompt where the answer of the model would begin")
    length: int | None = Field(None, ge=2, le=1_000_000, description="ids of a message at most; the model's limit")
    lm_head: bool = Field(False, description="with the language modeling head: the tap `logits`")

    @model_validator(mode="after")
    def _prepared(self) -> Self:
        if self.hub is None and self.processor is None:
            raise ValueError("a model that is written out needs `processor`, the folder of one")
        return self

    def draws(self) -> bool:
        return self.description().drops

    def fingerprint(self) -> Any:
        own = super().fingerprint()
        return own if self.processor is None else {"model": own, "processor": contents(self.processor)}

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        about, given = self.description(), inputs[0]
        pooled = TensorType("vector", given.axes, (about.width,), groups=given.groups)
        tokens = pooled.with_(modality="tokens", size=(None, about.width), vocabulary=about.vocabulary)
        found = {"pooled": pooled, "tokens": tokens, "ids": tokens.with_(size=(None,), dtype="int64")}
        if self.lm_head:
            found["logits"] = tokens.with_(modality="logits", size=(None, about.vocabulary))
        for number in range(1, about.depth + 1):
            found[f"layers.{number}"] = tokens
            found[f"attention.{number}"] = pooled.with_(modality="attention", size=(about.heads, None, None))
        return found

    def taps(self) -> tuple[str, ...]:
        numbers = range(1, self.description().depth + 1)
        logits = ("logits",) if self.lm_head else ()
        return (*(f"layers.{n}" for n in numbers), *(f"attention.{n}" for n in numbers), *logits)

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> Any:
        about = self.description()
        limits = [n for n in (self.length, about.context) if n is not None]
        return prepared(
            self._processor(), value, generation_prompt=self.generation_prompt, longest=min(limits, default=None)
        )

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_transformers.message_module import encoding

        weights = self.hub is not None and not without_memory()
        model = self._model().build(commit=self.commit_on_hub() if weights else None, weights=weights)
        padding = getattr(self._processor().tokenizer, "pad_token_id", None)
        return encoding(model, self.pool, padding or 0, language=self.lm_head)

    def description(self) -> Description:
        """The outputs of the model."""
        return described(self._model())

    def _model(self) -> Model:
        return Model(self.hub, self.revision, self.written(), None, False, self.lm_head)

    def _processor(self) -> Any:
        where = self.processor or self.hub
        assert where is not None
        found = load("AutoProcessor", where, self.revision if self.processor is None else None)
        if getattr(found, "tokenizer", None) is None or getattr(found, "image_processor", None) is None:
            raise ComponentError(f"{where} prepares no images with texts", hint="write `use: transformers`")
        return found


@dataclass(frozen=True)
class Description:
    """The outputs of the language model of a vision-language model."""

    width: int
    depth: int
    heads: int
    vocabulary: int
    context: int | None
    drops: bool


@lru_cache(maxsize=32)
def described(model: Model) -> Description:
    """The description of a model, once it was built without memory."""
    import torch
    from torch import nn

    with described_within_bounds(model.shown), torch.device("meta"):
        whole = model.configuration()
        own = whole.get_text_config()
        if own is whole or getattr(whole, "vision_config", None) is None:
            raise ComponentError(f"{model.shown} is no model of images and texts", hint="write `use: transformers`")
        made = model.build()
    rates = [value for part in (whole.vision_config, own) for name, value in part.to_dict().items() if "drop" in name]
    return Description(
        width=int(own.hidden_size),
        depth=int(own.num_hidden_layers),
        heads=int(own.num_attention_heads),
        vocabulary=int(own.vocab_size),
        context=getattr(own, "max_position_embeddings", None),
        drops=any(isinstance(each, nn.Dropout) and each.p > 0 for each in made.modules())
        or any(isinstance(rate, float) and rate > 0 for rate in rates),
    )
