"""Words as ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from mmflow.plugin import Tokenizer
from mmflow_encoders.tokenizers.framing import framed

PIECE = re.compile(r"\w+|[^\w\s]")


class Word(Tokenizer, name="word"):
    """Words and punctuation marks, the most frequent of the training texts, at most `vocabulary` ids.

    Ids: 0 padding, 1 begin, 2 end, 3 unknown, then words by falling count (ties in the order of the alphabet).
    Decoding joins with single spaces.
    """

    learns: ClassVar[bool] = True
    example: ClassVar[str] = "{use: text_transformer, of: caption, tokenizer: {use: word, vocabulary: 2000}}"
    special: ClassVar[Mapping[str, int]] = {"padding": 0, "begin": 1, "end": 2, "unknown": 3}

    vocabulary: int = Field(4096, ge=5, le=1_000_000, description="largest number of ids, special ones included")
    least: int = Field(1, ge=1, le=1_000_000_000, description="a word that occurs less often is unknown")
    lowercase: bool = Field(True, description="whether capitals become lowercase")

    def learn(self, texts: Iterable[str]) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self._pieces(text))
        common = sorted((word for word, n in counts.items() if n >= self.least), key=lambda w: (-counts[w], w))
        first = len(self.special)
        return {"ids": {word: first + i for i, word in enumerate(common[: self.vocabulary - first])}}

    def size(self, state: Mapping[str, Any] | None) -> int:
        return len(self.special) + len(state["ids"]) if state else self.vocabulary

    def encode(self, text: str, state: Mapping[str, Any], *, length: int) -> list[int]:
        ids, unknown = state["ids"], self.special["unknown"]
        return framed([ids.get(piece, unknown) for piece in self._pieces(text)], self.special, length)

    def decode(self, ids: Sequence[int], state: Mapping[str, Any]) -> str:
        words = {number: word for word, number in state["ids"].items()}
        words[self.special["unknown"]] = "?"
        return " ".join(words[i] for i in ids if i in words)

    def _pieces(self, text: str) -> list[str]:
        return PIECE.findall(text.lower() if self.lowercase else text)
