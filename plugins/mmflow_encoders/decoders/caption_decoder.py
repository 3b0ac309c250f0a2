"""The decoder of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import ComponentError, Encoder, Pooled, RawField, Refs, TensorType, Tokenizer, TokenSequence
from mmflow_encoders.declared import check_heads, width_of

if TYPE_CHECKING:
    from torch import nn


class CaptionDecoder(Encoder, name="caption_decoder"):
    """Predicts the next token of a text from the tokens before it and from other sequences (CoCa; Yu et al., 2022).

    `of: [text.tokens, image.tokens, ...]`: the first input is the states of a *causal* text encoder, or, with a
    `tokenizer`, a raw text, which is then embedded here with learned positions; the others (tokens, grids or vectors
    of one width, joined) are attended to. Each block is causal self-attention, cross-attention, MLP, all pre-norm.

    Output: `logits` [N, L, V] with the text's mask; the logits at place t are for the id at t + 1, as
    `caption_nll` reads them. V is the number of ids of the text encoder's tokenizer: its `vocabulary`, an upper
    bound, since the states come without the learned vocabulary; for raw text the learned number.
    The loss's `targets` are the ids of the same text: `targets: text.ids`, or `targets: caption`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("tokens", "text"), ("tokens", "grid", "vector"))
    example: ClassVar[str] = "{use: caption_decoder, of: [text.tokens, image.tokens], depth: 2}"

    of: Refs[TokenSequence | Pooled | RawField] = Field(min_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    tokenizer: Tokenizer | None = Field(None, description="for raw text only")
    length: int = Field(64, ge=2, le=8192, description="ids of a raw text at most, begin and end included")
    width: int | None = Field(None, ge=1, description="for raw text; otherwise the width of the states")
    depth: int = Field(2, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="must divide width")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the hidden layer of an MLP over the width of the tokens")
    dropout: float = Field(0.0, ge=0, lt=1, description="of residual branches, hidden layers and attention weights")

    def draws(self) -> bool:
        return self.dropout > 0

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        text = inputs[0]
        vocabulary = self.tokenizer.size(None) if self.tokenizer else text.vocabulary
        length = text.size[0] if text.modality == "tokens" and text.size else None
        logits = TensorType("logits", text.axes, (length, vocabulary), groups=text.groups, vocabulary=vocabulary)
        return {"logits": logits}

    def learns(self) -> tuple[int, ...]:
        return (0,) if self.tokenizer is not None and self.tokenizer.learns else ()

    def learn(self, index: int, values: Iterable[Any]) -> dict[str, Any]:
        return self.tokenizer.learn(values) if self.tokenizer is not None else {}

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> Any:
        if index or self.tokenizer is None:
            return value
        return self.tokenizer.encode(value, state, length=self.length)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.caption_decoder import CaptionDecoder as Module

        text, memories = inputs[0], inputs[1:]
        if (text.modality == "text") != (self.tokenizer is not None):
            raise ComponentError(
                "caption_decoder takes a `tokenizer` with a raw text, and none with states",
                found=f"{text.modality} and {'a' if self.tokenizer else 'no'} tokenizer",
                hint="write `of: [text.tokens, ...]`, or add `tokenizer: word`",
            )
        vocabulary = self.tokenizer.size(state or None) if self.tokenizer else text.vocabulary
        if vocabulary is None:
            raise ComponentError(
                "caption_decoder does not know the number of ids to predict",
                expected="tokens of an encoder that reads text and states its `vocabulary`, or a text field",
            )
        width = (self.width or 256) if self.tokenizer else width_of("caption_decoder", text)
        check_heads(width, self.heads)
        return Module(
            vocabulary=vocabulary,
            width=width,
            memory_width=width_of("caption_decoder", *memories),
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            length=self.length if self.tokenizer else None,
        )
