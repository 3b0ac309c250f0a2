"""Tokenizers of our own: bytes, and words or byte pairs learned from the training texts.

Ids 0 to 2 are padding, begin and end in all; every text begins with begin and ends with end, truncated or not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from pydantic import Field

from mmflow.plugin import Tokenizer

PIECE = re.compile(r"\w+|[^\w\s]")


def well_formed(text: str) -> str:
    """The text with U+FFFD for half a surrogate pair, which JSON can hold and no encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class Byte(Tokenizer, name="byte"):
    """The bytes of the UTF-8 text; nothing to learn and no text unknown (as in ByT5, Xue et al., 2022).

    Ids: 0 padding, 1 begin, 2 end, 3 + byte.
    """

    example: ClassVar[str] = "{use: text_transformer, of: caption, tokenizer: byte, length: 128}"
    special: ClassVar[Mapping[str, int]] = {"padding": 0, "begin": 1, "end": 2}

    def size(self, state: Mapping[str, Any] | None) -> int:
        return len(self.special) + 256

    def encode(self, text: str, state: Mapping[str, Any], *, length: int) -> list[int]:
        return _framed([len(self.special) + b for b in well_formed(text).encode()], self.special, length)

    def decode(self, ids: Sequence[int], state: Mapping[str, Any]) -> str:
        first = len(self.special)
        # A truncated text may end inside a character.
        return bytes(i - first for i in ids if first <= i < first + 256).decode(errors="ignore")


class Word(Tokenizer, name="word"):
    """Words and punctuation marks, the commonest of the training texts, at most `vocabulary` ids.

    Ids: 0 padding, 1 begin, 2 end, 3 unknown, then words by falling count (ties in the order of the alphabet).
    Decoding joins with single spaces.
    """

    learns: ClassVar[bool] = True
    example: ClassVar[str] = "{use: text_transformer, of: caption, tokenizer: {use: word, vocabulary: 2000}}"
    special: ClassVar[Mapping[str, int]] = {"padding": 0, "begin": 1, "end": 2, "unknown": 3}

    vocabulary: int = Field(4096, ge=5, le=1_000_000, description="largest number of ids, special ones included")
    least: int = Field(1, ge=1, description="a word that occurs less often is unknown")
    lowercase: bool = Field(True, description="whether capitals are made small")

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
        return _framed([ids.get(piece, unknown) for piece in self._pieces(text)], self.special, length)

    def decode(self, ids: Sequence[int], state: Mapping[str, Any]) -> str:
        words = {number: word for word, number in state["ids"].items()}
        words[self.special["unknown"]] = "?"
        return " ".join(words[i] for i in ids if i in words)

    def _pieces(self, text: str) -> list[str]:
        return PIECE.findall(text.lower() if self.lowercase else text)


class Bpe(Tokenizer, name="bpe"):
    """Pieces of words learned by joining the most frequent pairs (Sennrich et al., 2016), over bytes (GPT-2; Radford
    et al., 2019), so that no text is unknown and decoding gives every text back.

    Ids: 0 padding, 1 begin, 2 end, then the 256 bytes and the pairs in the order in which they were joined. The same
    texts give the same pieces, in any order.
    """

    learns: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("tokenizers",)
    extra: ClassVar[str] = "hf"
    example: ClassVar[str] = "{use: text_transformer, of: caption, tokenizer: {use: bpe, vocabulary: 8000}}"
    special: ClassVar[Mapping[str, int]] = {"padding": 0, "begin": 1, "end": 2}

    vocabulary: int = Field(4096, ge=259, le=1_000_000, description="largest number of ids, special ones included")
    least: int = Field(2, ge=1, description="a pair that occurs less often is not joined")

    def learn(self, texts: Iterable[str]) -> dict[str, Any]:
        from tokenizers import Tokenizer as Pieces
        from tokenizers import decoders, models, pre_tokenizers, trainers

        pieces = Pieces(models.BPE())
        pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        pieces.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary - len(self.special),
            min_frequency=self.least,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        pieces.train_from_iterator(map(well_formed, texts), trainer)
        return {"pieces": pieces.to_str()}

    def size(self, state: Mapping[str, Any] | None) -> int:
        return len(self.special) + _pieces_of(state["pieces"]).get_vocab_size() if state else self.vocabulary

    def encode(self, text: str, state: Mapping[str, Any], *, length: int) -> list[int]:
        first = len(self.special)
        pieces = _pieces_of(state["pieces"]).encode(well_formed(text))
        return _framed([first + i for i in pieces.ids], self.special, length)

    def decode(self, ids: Sequence[int], state: Mapping[str, Any]) -> str:
        first = len(self.special)
        return _pieces_of(state["pieces"]).decode([i - first for i in ids if i >= first])


@lru_cache(maxsize=8)
def _pieces_of(stored: str) -> Any:
    from tokenizers import Tokenizer as Pieces

    return Pieces.from_str(stored)


def _framed(ids: list[int], special: Mapping[str, int], length: int) -> list[int]:
    return [special["begin"], *ids[: max(0, length - 2)], special["end"]][:length]
