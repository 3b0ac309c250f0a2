"""Texts as ids."""

from __future__ import annotations

from typing import Any, ClassVar

from mmflow.plugin import ComponentError, Field, TensorType, Tokenizer, Transform


class TokenIds(Transform, name="token_ids"):
    """The ids that a tokenizer makes of a text, for transforms of ids (`mask_tokens`) and encoders that read them.

    The tokenizer's vocabulary is fixed: one that learns its own from texts belongs to an encoder.
    """

    example: ClassVar[str] = "views: {masked: {of: caption, apply: [{use: token_ids, tokenizer: byte, length: 64}]}}"

    tokenizer: Tokenizer = Field(description="that of the encoder which reads the ids")
    length: int = Field(512, ge=2, le=1_000_000, description="ids of a text at most, begin and end included")

    def result(self, field: TensorType) -> TensorType:
        if field.modality != "text":
            raise ValueError(f"token_ids takes texts, not {field.modality}")
        if self.tokenizer.learns:
            raise ComponentError(
                f"token_ids needs a fixed vocabulary, and {self.tokenizer.use} learns its own from texts",
                hint="name `byte`, or the tokenizer of a model",
            )
        return field.with_(modality="tokens", size=(None,), dtype="int64", vocabulary=self.tokenizer.size(None))

    def apply(self, value: Any, generator: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"token_ids takes texts, not {type(value).__name__}")
        return self.tokenizer.encode(value, {}, length=self.length)
