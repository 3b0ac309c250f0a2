"""The decoder of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, Pooled, RawField, Refs, TensorType, Tokenizer, TokenSequence
from mmflow_encoders.declared import (
    Blocks,
    Depth,
    Width,
    check_heads,
    layer_names,
    length_of,
    map_like,
    map_names,
    tapped,
    tokens_like,
    width_of,
)
from mmflow_encoders.inputs import MOST, SEQUENCES

if TYPE_CHECKING:
    from torch import nn


class CaptionDecoder(Blocks, name="caption_decoder"):
    """Predicts the next token of a text from the tokens before it and from other sequences (CoCa; Yu et al., 2022).

    `of: [text.tokens, image.tokens, ...]`: the first input is the states of a *causal* text encoder, or, with a
    `tokenizer`, a raw text, which is then embedded here with learned positions; the others (tokens, grids or vectors
    of one width, joined) are attended to. Each block is causal self-attention, cross-attention, MLP, all pre-norm. With
    `attend: prefix` the others are projected and stand before the text instead, where they see each other (ClipCap;
    Mokady et al., 2021).

    Output: `logits` [N, L, V] with the text's mask; the logits at place t are for the id at t + 1, as
    `caption_nll` reads them. V is the number of ids of the text encoder's tokenizer: its `vocabulary`, an upper
    bound, since the states come without the learned vocabulary; for raw text the learned number.
    The loss's `targets` are the ids of the same text: `targets: text.ids`, or `targets: caption`.

    Taps: `layers.1` to `layers.<depth>`; `attention.1` and so on, the maps of the text, prefix included; `cross.1` and
    so on, those to the other sequences. For raw text also `generated`, ids [N, L'] that are decoded from the other
    sequences alone: `greedy`; by `beam` search, whose scores are log probabilities / length ** penalty; or from the
    `nucleus` of probability `top_p` (Holtzman et al., 2020).
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("tokens", "text"), *(SEQUENCES,) * (MOST - 1))
    example: ClassVar[str] = "{use: caption_decoder, of: [text.tokens, image.tokens], depth: 2}"

    of: Refs[TokenSequence | Pooled | RawField] = Field(min_length=2, max_length=MOST)  # pyright: ignore[reportIncompatibleVariableOverride]
    tokenizer: Tokenizer | None = Field(None, description="for raw text only")
    length: int = Field(64, ge=2, le=65_536, description="ids of a raw text at most, begin and end included")
    width: Width | None = Field(None, description="for raw text; otherwise the width of the states")
    depth: Depth = Field(2, description="number of blocks")
    attend: Literal["cross", "prefix"] = Field("cross", description="attend to the other sequences, or stand behind")
    decoding: Literal["greedy", "beam", "nucleus"] = Field("greedy", description="of `generated`")
    beams: int = Field(4, ge=1, le=1024, description="sequences that beam search keeps")
    penalty: float = Field(1.0, ge=0, le=100, description="exponent of the length in the scores of beam search")
    top_p: float = Field(0.9, gt=0, le=1, description="probability of the nucleus")
    temperature: float = Field(1.0, gt=0, le=1e6, description="divisor of the logits before the nucleus is taken")
    seed: int = Field(0, ge=0, le=2**62, description="of the nucleus' draws, one a token for all rows alike")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        text = inputs[0]
        if (text.modality == "text") != (self.tokenizer is not None):
            raise ComponentError(
                "caption_decoder takes a `tokenizer` with a raw text, and none with states",
                found=f"{text.modality} and {'a' if self.tokenizer else 'no'} tokenizer",
                hint="write `of: [text.tokens, ...]`, or add `tokenizer: word`",
            )
        vocabulary = self.tokenizer.size(None) if self.tokenizer else text.vocabulary
        if vocabulary is None:
            raise ComponentError(
                "caption_decoder does not know the number of ids to predict",
                expected="tokens of an encoder that reads text and states its `vocabulary`, or a text field",
            )
        width = (self.width or 256) if self.tokenizer else (text.size[-1] if text.size else None)
        length = length_of(text)
        logits = tokens_like(text, length, vocabulary).with_(modality="logits", vocabulary=vocabulary)
        lengths = [length_of(given) for given in inputs[1:]]
        memory = None if None in lengths else sum(n for n in lengths if n is not None)
        outputs = {"logits": logits, **tapped(layer_names(self.depth), tokens_like(text, length, width))}
        if self.attend == "cross":
            outputs.update(tapped(map_names(self.depth, "cross"), map_like(text, self.heads, length, memory)))
        elif length is not None:
            length = None if memory is None else length + memory
        outputs.update(tapped(map_names(self.depth), map_like(text, self.heads, length, length)))
        if self._generates():
            outputs["generated"] = logits.with_(modality="tokens", size=(None,), dtype="int64")
        return outputs

    def taps(self) -> tuple[str, ...]:
        cross = map_names(self.depth, "cross") if self.attend == "cross" else ()
        generated = ("generated",) if self._generates() else ()
        return (*layer_names(self.depth), *map_names(self.depth), *cross, *generated)

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
        vocabulary = self.tokenizer.size(state or None) if self.tokenizer else text.vocabulary
        width = (self.width or 256) if self.tokenizer else width_of("caption_decoder", text)
        check_heads(width, self.heads)
        assert vocabulary is not None, "outputs() refuses text without one"
        return Module(
            vocabulary=vocabulary,
            width=width,
            memory_width=width_of("caption_decoder", *memories),
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            length=self.length if self.tokenizer else None,
            prefix=self.attend == "prefix",
            **self._decoding(),
        )

    def _generates(self) -> bool:
        """Whether a text can be decoded here: the tokenizer is our own, and has ids that begin and end a text."""
        return self.tokenizer is not None and {"begin", "end"} <= set(self.tokenizer.special)

    def _decoding(self) -> dict[str, Any]:
        """Arguments of the module for the tap `generated`."""
        if self.tokenizer is None or not self._generates():
            return {}
        return {
            "begin": self.tokenizer.special["begin"],
            "end": self.tokenizer.special["end"],
            "decoding": self.decoding,
            "beams": self.beams,
            "penalty": self.penalty,
            "top_p": self.top_p,
            "temperature": self.temperature,
            "seed": self.seed,
        }
