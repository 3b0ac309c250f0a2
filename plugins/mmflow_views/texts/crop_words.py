"""Words in a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import Field, TensorType
from mmflow_views.numbers import Number
from mmflow_views.texts.base import PLACES, TextTransform


class CropWords(TextTransform, name="crop_words"):
    """Consecutive words: a share of the text drawn from `share`, at a random place; at least one, all in evaluation.

    Adds `kept`: the places of the words that stay.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"kept": PLACES}

    share: tuple[Number, Number] = Field((0.5, 1.0), description="smallest and largest share of the words")

    @field_validator("share")
    @classmethod
    def _shares(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 < pair[0] <= pair[1] <= 1:
            raise ValueError("two shares in (0, 1], the smaller one first")
        return pair

    def change(self, text: str, generator: Any) -> tuple[str, Any]:
        words = text.split()
        if generator is None or not words:
            return text, list(range(len(words)))
        count = max(1, round(generator.uniform(*self.share) * len(words)))
        start = int(generator.integers(len(words) - count + 1))
        return " ".join(words[start : start + count]), list(range(start, start + count))
