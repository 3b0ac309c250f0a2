"""The text transformer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import Encoder, TensorType, Tokenizer, default
from mmflow_encoders.declared import check_heads, layer_names, tapped

if TYPE_CHECKING:
    from torch import nn


class TextTransformer(Encoder, name="text_transformer"):
    """Transformer over the ids of a tokenizer, pre-norm, with learned positions (Vaswani et al., 2017).

    Input: text. Outputs: `pooled` [N, width]; `tokens` [N, L, width] with their mask, after the final norm; `ids`, the
    tokenizer's ids [N, L]; taps `layers.1` to `layers.<depth>`, the tokens after each block. Padding changes nothing.

    `pool`: `mean` over the real tokens; `last` real token (Radford et al., 2018); `eos`, the first end id (CLIP;
    Radford et al., 2021); `cls`, a learned token, first (Devlin et al., 2019), or last under a causal mask (CoCa;
    Yu et al., 2022), which is no part of `tokens`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("text",),)
    example: ClassVar[str] = "{use: text_transformer, of: caption, width: 128, depth: 2, head: {use: linear, dim: 128}}"

    tokenizer: Tokenizer = default("word", description="text to ids; it may learn from the training texts")
    length: int = Field(64, ge=2, le=8192, description="largest number of ids of a text, begin and end included")
    width: int = Field(256, ge=1, description="of tokens and of the pooled vector")
    depth: int = Field(4, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="must divide width")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the hidden layer of an MLP over the width of the tokens")
    dropout: float = Field(0.0, ge=0, lt=1, description="of residual branches, hidden layers and attention weights")
    causal: bool = Field(False, description="a token sees only the tokens before it, as a decoder on top needs")
    pool: Literal["mean", "last", "eos", "cls"] = Field(
        "mean", description="the pooled vector: a mean, a token, or a class token"
    )

    def draws(self) -> bool:
        return self.dropout > 0

    @model_validator(mode="after")
    def _divisible(self) -> TextTransformer:
        check_heads(self.width, self.heads)
        return self

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        text = inputs[0]
        vocabulary = self.tokenizer.size(None)
        vector = TensorType("vector", text.axes, (self.width,), groups=text.groups)
        tokens = vector.with_(modality="tokens", size=(None, self.width), vocabulary=vocabulary)
        ids = tokens.with_(size=(None,), dtype="int64")
        return {"pooled": vector, "tokens": tokens, "ids": ids, **tapped(self.taps(), tokens)}

    def taps(self) -> tuple[str, ...]:
        return layer_names(self.depth)

    def learns(self) -> tuple[int, ...]:
        return (0,) if self.tokenizer.learns else ()

    def learn(self, index: int, values: Iterable[Any]) -> dict[str, Any]:
        return self.tokenizer.learn(values)

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> list[int]:
        return self.tokenizer.encode(value, state, length=self.length)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.text_transformer import TextTransformer as Module

        return Module(
            vocabulary=self.tokenizer.size(state or None),
            length=self.length,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            causal=self.causal,
            pool=self.pool,
            end=self.tokenizer.special.get("end"),
        )
