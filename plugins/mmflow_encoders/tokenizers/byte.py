"""Bytes as ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmflow.plugin import Tokenizer
from mmflow_encoders.tokenizers.framing import framed, well_formed


class Byte(Tokenizer, name="byte"):
    """The bytes of the UTF-8 text; nothing is learned and no text is unknown (as in ByT5, Xue et al., 2022).

    Ids: 0 padding, 1 begin, 2 end, 3 + byte.
    """

    example: ClassVar[str] = "{use: text_transformer, of: caption, tokenizer: byte, length: 128}"
    special: ClassVar[Mapping[str, int]] = {"padding": 0, "begin": 1, "end": 2}

    def size(self, state: Mapping[str, Any] | None) -> int:
        return len(self.special) + 256

    def encode(self, text: str, state: Mapping[str, Any], *, length: int) -> list[int]:
        return framed([len(self.special) + b for b in well_formed(text).encode()], self.special, length)

    def decode(self, ids: Sequence[int], state: Mapping[str, Any]) -> str:
        first = len(self.special)
        # A truncated text may end inside a character.
        return bytes(i - first for i in ids if first <= i < first + 256).decode(errors="ignore")
