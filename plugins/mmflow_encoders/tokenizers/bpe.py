"""Byte pairs as ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from pydantic import Field

from mmflow.plugin import Tokenizer
from mmflow_encoders.tokenizers.framing import framed, well_formed


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
    least: int = Field(2, ge=1, le=1_000_000_000, description="a pair that occurs less often is not joined")

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
        return framed([first + i for i in pieces.ids], self.special, length)

    def decode(self, ids: Sequence[int], state: Mapping[str, Any]) -> str:
        first = len(self.special)
        return _pieces_of(state["pieces"]).decode([i - first for i in ids if i >= first])


@lru_cache(maxsize=8)
def _pieces_of(stored: str) -> Any:
    from tokenizers import Tokenizer as Pieces

    return Pieces.from_str(stored)
