"""Two texts joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mmflow.plugin import TensorType
from mmflow_views.mixing.base import PairTransform


class JoinTexts(PairTransform, name="join_texts"):
    """Joins the texts of two rows, each field of the view in an order of its own (Chi et al., InfoXLM, 2021).

    `of: [sentence, translation]` joins both with the texts of one partner. `lambda` is the row's own share of the words
    of the first field; `alpha` has no effect.
    """

    example: ClassVar[str] = "views: {both: {of: [sentence, translation], apply: [join_texts]}}"

    def pair(
        self, own: Mapping[str, Any], other: Mapping[str, Any], share: float, place: tuple[float, float]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        joined = {}
        for number, (name, text) in enumerate(own.items()):
            if not isinstance(text, str):
                raise ValueError(f"join_texts takes texts, not {type(text).__name__}")
            # The digits of one draw are as many fair coins.
            first = int(place[0] * 2 ** (number + 1)) % 2
            joined[name] = " ".join((other[name], text) if first else (text, other[name]))
        lengths = [len(next(iter(texts.values())).split()) for texts in (own, other)]
        return joined, {"lambda": lengths[0] / max(1, sum(lengths))}

    def result(self, field: TensorType) -> TensorType:
        if field.modality != "text":
            raise ValueError(f"join_texts takes texts, not {field.modality}")
        return field
