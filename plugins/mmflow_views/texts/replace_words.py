"""Words replaced by others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import Field, TensorType
from mmflow_views.texts.base import PLACES, Corruption, places


class ReplaceWords(Corruption, name="replace_words"):
    """Replaces words by one of their entries in `table`; words without an entry stay.

    Adds `replaced`: the places of the replaced words.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"replaced": PLACES}
    example: ClassVar[str] = "{use: replace_words, p: 0.5, table: {red: [crimson], circle: [disc, round shape]}}"

    table: dict[str, tuple[str, ...]] = Field(min_length=1)

    @field_validator("table")
    @classmethod
    def _not_empty(cls, table: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for word, others in table.items():
            if not others:
                raise ValueError(f"no replacement for {word!r}")
        return table

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> tuple[list[str], list[int]]:
        replaced = [one and word in self.table for word, one in zip(words, chosen, strict=True)]
        if not any(replaced):
            return words, []
        draws = generator.random(len(words)).tolist()
        out = list(words)
        for place in places(replaced):
            others = self.table[words[place]]
            out[place] = others[int(draws[place] * len(others))]
        return out, places(replaced)
