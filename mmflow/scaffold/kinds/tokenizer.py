"""A tokenizer of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmflow.plugin import Tokenizer


class CLASS(Tokenizer, name="NAME"):
    """Characters of the Latin-1 table; others are the id 0.

    Say here how text becomes ids. One that `learns` writes `learn(texts)` too.
    """

    example: ClassVar[str] = "{use: text_transformer, of: caption, tokenizer: NAME}"

    def size(self, state: Mapping[str, Any] | None) -> int:
        return 256

    def encode(self, text: str, state: Mapping[str, Any], *, length: int) -> list[int]:
        """At most `length` ids."""
        return [ord(character) if ord(character) < 256 else 0 for character in text[:length]] or [0]

    def decode(self, ids: Sequence[int], state: Mapping[str, Any]) -> str:
        return "".join(chr(id) for id in ids)
