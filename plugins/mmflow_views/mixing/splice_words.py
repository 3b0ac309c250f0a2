"""The words of two texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mmflow.plugin import TensorType
from mmflow_views.mixing.base import PairTransform, distribution


class SpliceWords(PairTransform, name="splice_words"):
    """The first words of a text followed by the last words of another one.

    Each text gives its share of words, rounded down for the other text; `lambda` is the share of words that are the
    row's own, and labels are mixed by it.
    """

    example: ClassVar[str] = "views: {both: {of: caption, apply: [{use: splice_words, each: row}]}}"

    def pair(
        self, own: Mapping[str, Any], other: Mapping[str, Any], share: float, place: tuple[float, float]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        texts = [name for name, value in own.items() if isinstance(value, str)]
        if len(texts) != 1:
            raise ValueError(f"splice_words needs one text among its fields, got {len(texts)}")
        words, others = own[texts[0]].split(), other[texts[0]].split()
        tail = int((1 - share) * len(others))
        head = len(words) - int((1 - share) * len(words))
        spliced = " ".join(words[:head] + others[len(others) - tail :])
        kept = head / (head + tail) if head + tail else 1.0
        names = {n: distribution(own[n], other[n], kept, classes) for n, classes in self.labels(own).items()}
        return {texts[0]: spliced, **names}, {"lambda": kept}

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        if sum(field.modality == "text" for field in fields) != 1:
            found = ", ".join(field.modality for field in fields)
            raise ValueError(f"splice_words needs one text among its fields, got {found}")
        return super().added(*fields)

    def result(self, field: TensorType) -> TensorType:
        if field.modality not in ("text", "label"):
            raise ValueError(f"splice_words takes a text and labels, not {field.modality}")
        return super().result(field)
