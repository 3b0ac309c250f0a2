"""Words replaced by a mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_views.texts.base import PLACES, Corruption, places


class MaskWords(Corruption, name="mask_words"):
    """Replaces words by a mark; with `merge`, one mark for a run of words (text infilling; Lewis et al., BART, 2020).

    Adds `masked`: the places of the hidden words in the original text.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"masked": PLACES}
    example: ClassVar[str] = "views: {masked: {of: caption, apply: [{use: mask_words, p: 0.3, spans: 3, merge: true}]}}"

    mark: str = Field("[MASK]", min_length=1)
    merge: bool = Field(False, description="whether consecutive hidden words share a mark")

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> tuple[list[str], list[int]]:
        out = []
        for place, (word, masked) in enumerate(zip(words, chosen, strict=True)):
            if not (self.merge and masked and place and chosen[place - 1]):
                out.append(self.mark if masked else word)
        return out, places(chosen)
