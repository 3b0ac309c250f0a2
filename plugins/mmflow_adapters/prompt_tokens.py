"""Learned tokens in a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmflow_encoders.declared import width_of
from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, Encoder, Pooled, RawField, Refs, TensorType, TokenSequence

if TYPE_CHECKING:
    from torch import nn


class PromptTokens(Encoder, name="prompt_tokens"):
    """Learned context vectors put among the embedded words of a text (CoOp; Zhou et al., 2022a).

    `of: text.words`, the embeddings of a text encoder, whose own weights then read the result:
    `{use: same, weights: text, of: prompts.tokens}`. Output: `tokens` [N, L + count, D] with their mask. `place: front`
    puts the vectors behind the first token (begin), `end` before the last real one (end), `middle` one half behind the
    first token and the other half before the last. The encoder's `length` must have room for `count` more tokens.

    `classes`: the number of rows of a static text (class names) for vectors of their own for each row; the vectors are
    shared where it is unset. With a second input, a vector, the context is conditional (CoCoOp; Zhou et al., 2022b): an
    MLP of width C / 16 of it is added to every vector. Where the words are static and the condition has samples, each
    sample has prompts of its own: `tokens` [N, classes, L + count, D], with the group axis `class`.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("tokens",), ("vector",))
    axes: ClassVar[tuple[str, ...]] = ("class",)
    example: ClassVar[str] = "{use: prompt_tokens, of: names.words, count: 16}"

    of: Refs[TokenSequence | Pooled | RawField] = Field(min_length=1, max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    count: int = Field(16, ge=1, le=4096, description="number of learned vectors")
    place: Literal["front", "middle", "end"] = Field("front", description="behind the first token, or before the last")
    classes: int | None = Field(None, ge=1, le=1_000_000, description="rows that have vectors of their own")

    @model_validator(mode="after")
    def _one_way(self) -> PromptTokens:
        if self.classes is not None and len(self.of) == 2:
            raise ValueError("vectors for each class and a condition exclude each other")
        return self

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        words = inputs[0]
        size = words.size if len(words.size) == 2 else (None, None)
        length = None if size[0] is None else size[0] + self.count
        given = inputs[1] if self._crossed(*inputs) else words
        axes, groups = (given.axes, given.groups)
        if self._crossed(*inputs):
            axes, groups = (*axes, "class"), (*groups, None)
        return {"tokens": words.with_(modality="tokens", axes=axes, groups=groups, size=(length, size[1]))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_adapters.modules import Context

        if self.classes is not None and not inputs[0].static:
            raise ComponentError(
                "prompt_tokens: `classes` needs a static text, with a row for each class",
                found=f"an input with the axis {inputs[0].axes[0]!r}",
            )
        return Context(
            count=self.count,
            width=width_of(self.use, inputs[0]),
            classes=self.classes,
            place=self.place,
            condition_width=width_of(self.use, inputs[1]) if len(inputs) == 2 else None,
            crossed=self._crossed(*inputs),
        )

    def _crossed(self, *inputs: TensorType) -> bool:
        """Whether each sample has prompts of its own for each row of a static text."""
        return len(inputs) == 2 and inputs[0].static and not inputs[1].static
