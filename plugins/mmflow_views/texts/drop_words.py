"""Words left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmflow.plugin import TensorType
from mmflow_views.texts.base import PLACES, Corruption, places


class DropWords(Corruption, name="drop_words"):
    """Leaves out words at random; at least one word stays. Adds `kept`: the places of the words that stay."""

    adds: ClassVar[Mapping[str, TensorType]] = {"kept": PLACES}
    example: ClassVar[str] = "views: {words: {of: caption, apply: [{use: drop_words, p: 0.1}]}}"

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> tuple[list[str], list[int]]:
        kept = places([not drop for drop in chosen])
        if not kept and words:
            kept = [int(generator.integers(len(words)))]
        return [words[place] for place in kept], kept
