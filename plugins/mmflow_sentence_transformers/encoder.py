"""Text models of sentence-transformers as encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mmflow_encoders.tokenizers.framing import well_formed
from mmflow_pretrained.encoders import LibraryEncoder
from mmflow_pretrained.folders import is_local
from mmflow_pretrained.reading import reading
from mmflow_pretrained.sentences import FORM
from pydantic import model_validator

from mmflow.plugin import ComponentError, Exported, Field, TensorType
from mmflow_sentence_transformers.description import Description, described
from mmflow_sentence_transformers.exporting import export

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


class SentenceEncoder(LibraryEncoder, name="sentence_transformers"):
    """A text model of sentence-transformers (Reimers and Gurevych, 2019), by name on the hub or folder.

    Outputs: `pooled`, the sentence embedding as the model's modules make it, normalized where one of them does so;
    `tokens`, the token embeddings with their mask; `ids`. Taps: `layers.1` and on, the states behind each block;
    `attention.1` and on, the maps [heads, L, L]. `prompt` is the name of one of the model's prompts, or a text, and is
    put in front of each text; by default the model's own default. Weights of one's own are written with `transformers`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("text",),)
    extra: ClassVar[str] = "sentence_transformers"
    requires: ClassVar[tuple[str, ...]] = ("sentence_transformers",)
    example: ClassVar[str] = "{use: sentence_transformers, of: caption, hub: ./minilm-tiny, lora: {rank: 8}}"

    prompt: str | None = Field(None, description="name of a prompt of the model, or a text put before each")
    length: int | None = Field(None, ge=2, le=1_000_000, description="ids of a text at most; the model's by default")

    @model_validator(mode="after")
    def _stored(self) -> Self:
        if self.config is not None:
            raise ValueError("a model with random weights is written with `use: transformers` and `pool: mean`")
        return self

    def draws(self) -> bool:
        return self.description().drops

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        about = self.description()
        pooled = TensorType("vector", inputs[0].axes, (about.width,), groups=inputs[0].groups)
        tokens = pooled.with_(modality="tokens", size=(None, about.channels), vocabulary=about.vocabulary)
        found = {"pooled": pooled, "tokens": tokens, "ids": tokens.with_(size=(None,), dtype="int64")}
        for number in range(1, about.depth + 1):
            found[f"layers.{number}"] = tokens
            found[f"attention.{number}"] = pooled.with_(modality="attention", size=(about.heads, None, None))
        return found

    def taps(self) -> tuple[str, ...]:
        numbers = range(1, self.description().depth + 1)
        return (*(f"layers.{n}" for n in numbers), *(f"attention.{n}" for n in numbers))

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> Any:
        if not isinstance(value, str):
            return value
        return self._ids(self._prompt() + well_formed(value))

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        import torch

        from mmflow_sentence_transformers.module import encoding

        assert self.hub is not None
        local, meta = is_local(self.hub), torch.empty(0).device.type == "meta"
        with reading("sentence_transformers", "model", self.hub), torch.device("cpu"):
            from sentence_transformers import SentenceTransformer

            name, commit = (self.description().folder, None) if local else (self.hub, self.commit())
            model = SentenceTransformer(name, device="cpu", revision=commit, trust_remote_code=False).float()
        prompt = self._prompt()
        hidden = len(self._ids(prompt)) - 1 if prompt else 0
        padding = _tokenizer(self.description().transformer).pad_token_id or 0
        made = encoding(model, self.description(), padding, hidden)
        return made.to("meta") if meta else made

    def forms(self) -> tuple[str, ...]:
        return (FORM,)

    def export(self, form: str, folder: Path, parts: Sequence[Exported]) -> str:
        return export(self, folder, parts)

    def _prompt(self) -> str:
        about = self.description()
        known = dict(about.prompts)
        name = about.default_prompt if self.prompt is None else self.prompt
        return "" if name is None else known.get(name, "" if self.prompt is None else name)

    def _ids(self, text: str) -> list[int]:
        about = self.description()
        text = text.strip().lower() if about.lower else text.strip()
        limit = min(self.length or about.length, about.length)
        return list(_tokenizer(about.transformer)(text, truncation=True, max_length=limit)["input_ids"])

    def description(self) -> Description:
        """The outputs of the model, and how it reads a text."""
        if self.hub is None:
            raise ComponentError("sentence_transformers needs `hub`")
        return described(self.hub, self.revision)


@lru_cache(maxsize=16)
def _tokenizer(folder: str) -> Any:
    with reading("transformers", "tokenizer", folder):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
