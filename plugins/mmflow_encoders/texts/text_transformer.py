"""The text transformer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, Pooled, RawField, Refs, TensorType, Tokenizer, TokenSequence, default
from mmflow_encoders.declared import Tower, layer_names

if TYPE_CHECKING:
    from torch import nn


class TextTransformer(Tower, name="text_transformer"):
    """Transformer over the ids of a tokenizer, pre-norm, with learned positions (Vaswani et al., 2017).

    Input: text, or embedded tokens [N, L, width] with their mask, as the output `words` and `prompt_tokens` give them,
    which then take the place of the embeddings of ids (`{use: same, weights: text, of: prompts.tokens}`). Outputs:
    `pooled` [N, width]; `tokens` [N, L, width] with their mask, after the final norm; of a text also `ids`, the
    tokenizer's ids [N, L]. Taps: `words`, the embeddings of the ids; `layers.1` to `layers.<depth>`, the tokens after
    each block; `attention.1` to `attention.<depth>`, the maps [N, heads, L', L'] over tokens and class token. Padding
    changes nothing.

    `pool`: `mean` over the real tokens; `last` real token (Radford et al., 2018); `eos`, the first end id (CLIP;
    Radford et al., 2021), of embedded tokens the last; `cls`, a learned token, first (Devlin et al., 2019), or last
    under a causal mask (CoCa; Yu et al., 2022), which is no part of `tokens`; `attention`, a learned query with an MLP
    (Zhai et al., 2022).
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("text", "tokens"),)
    example: ClassVar[str] = "{use: text_transformer, of: caption, width: 128, depth: 2, head: {use: linear, dim: 128}}"

    of: Refs[TokenSequence | Pooled | RawField] = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    tokenizer: Tokenizer = default("word", description="text to ids; it may learn from the training texts")
    length: int = Field(64, ge=2, le=65_536, description="largest number of ids of a text, begin and end included")
    causal: bool = Field(False, description="a token sees only the tokens before it, as a decoder on top needs")
    pool: Literal["mean", "last", "eos", "cls", "attention"] = Field(
        "mean", description="mean, last token, end token, class token, or learned query"
    )

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        text = inputs[0]
        if text.modality == "tokens" and len(text.size) == 1 and self.tokenizer.learns:
            raise ComponentError(
                f"ids need a tokenizer whose vocabulary is fixed, and {self.tokenizer.use} learns its own from texts",
                hint="write the tokenizer that made the ids, such as `tokenizer: byte`",
            )
        width = text.size[-1] if text.modality == "tokens" and len(text.size) == 2 else None
        if width not in (None, self.width):
            raise ComponentError(
                "embedded tokens are as wide as the encoder", found=str(width), expected=f"width {self.width}"
            )
        length = text.size[0] if text.modality == "tokens" and text.size else None
        vocabulary = self.tokenizer.size(None) if text.modality == "text" else text.vocabulary
        outputs = self.tower(text, length, self.pool, int(self.pool == "cls"))
        tokens = outputs["tokens"].with_(vocabulary=vocabulary)
        sequences = dict.fromkeys(("words", "tokens", *layer_names(self.depth)), tokens)
        ids = {"ids": tokens.with_(size=(None,), dtype="int64")} if text.modality == "text" else {}
        return {**outputs, **sequences, **ids}

    def taps(self) -> tuple[str, ...]:
        return ("words", *self.tower_taps(self.pool))

    def learns(self) -> tuple[int, ...]:
        return (0,) if self.tokenizer.learns else ()

    def learn(self, index: int, values: Iterable[Any]) -> dict[str, Any]:
        return self.tokenizer.learn(values)

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> Any:
        if isinstance(value, str):
            return self.tokenizer.encode(value, state, length=self.length)
        known = self.tokenizer.size(state or None)
        if len(value) and max(value) >= known:
            raise ValueError(f"id {max(value)}, and the tokenizer {self.tokenizer.use} has the ids 0 to {known - 1}")
        return value

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
