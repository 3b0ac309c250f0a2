"""Words in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmflow.plugin import TensorType
from mmflow_views.texts.base import PLACES, Corruption, places


class SwapWords(Corruption, name="swap_words"):
    """Permutes the chosen words. Adds `order`: the original place of each word."""

    adds: ClassVar[Mapping[str, TensorType]] = {"order": PLACES}

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> tuple[list[str], list[int]]:
        moved = places(chosen)
        order = list(range(len(words)))
        if moved:
            for place, source in zip(moved, generator.permutation(len(moved)).tolist(), strict=True):
                order[place] = moved[source]
        return [words[place] for place in order], order
