"""The bases of the transforms of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmflow.plugin import Field, TensorType, Transform
from mmflow_views.texts.runs import runs

PLACES = TensorType("labels", size=(None,), dtype="int64")


class TextTransform(Transform):
    """Base of the text transforms: write `change`. Fields of a joint view that hold no text pass unchanged.

    Words are separated by spaces; the members of a list of texts (a group axis) change one by one.

    The fields in `adds` describe the change of the first text of the view.
    """

    def change(self, text: str, generator: Any) -> tuple[str, Any]:
        """The changed text, and the fact that `adds` names."""
        raise NotImplementedError

    def apply(self, value: Any, generator: Any) -> Any:
        parts = value if isinstance(value, Mapping) else {"": value}
        changed = {name: self._each(part, generator) for name, part in parts.items()}
        result = {name: part for name, (part, _) in changed.items()}
        fact = next((fact for _, fact in changed.values() if fact is not None), None)
        texts = result if isinstance(value, Mapping) else result[""]
        return (texts, dict.fromkeys(self.adds, fact)) if self.adds else texts

    def _each(self, value: Any, generator: Any) -> tuple[Any, Any]:
        if isinstance(value, str):
            return self.change(value, generator)
        if isinstance(value, list):
            members = [self._each(member, generator) for member in value]
            return [text for text, _ in members], [fact for _, fact in members]
        return value, None

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        text = next((field for field in fields if field.modality == "text"), None)
        if not fields:
            return self.adds
        if text is None:
            raise ValueError(f"{self.use} needs a text, got {', '.join(field.modality for field in fields)}")
        return {name: fact.with_(axes=text.axes, groups=text.groups) for name, fact in self.adds.items()}


class Corruption(TextTransform):
    """Base of the transforms that change words at random, none in evaluation: write `corrupt`.

    Each word is chosen with probability `p`; with `spans`, a share `p` of the words, rounded, in runs of geometric
    lengths of that mean (Joshi et al., SpanBERT, 2020).
    """

    p: float = Field(0.15, ge=0, le=1, description="probability for each word")
    spans: float | None = Field(None, ge=1, le=1e6, description="mean length of runs; unset: word by word")

    def change(self, text: str, generator: Any) -> tuple[str, Any]:
        words = text.split()
        if generator is None or not words:
            return text, self.corrupt(words, [False] * len(words), generator)[1]
        words, fact = self.corrupt(words, self.chosen(len(words), generator), generator)
        return " ".join(words), fact

    def chosen(self, count: int, generator: Any) -> Sequence[bool]:
        """Which of `count` words are changed."""
        if self.spans is not None:
            return runs(count, round(self.p * count), self.spans, generator)
        return (generator.random(count) < self.p).tolist()

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> tuple[list[str], list[int]]:
        """The changed words, and the places that describe the change."""
        raise NotImplementedError


def places(chosen: Sequence[bool]) -> list[int]:
    return [place for place, one in enumerate(chosen) if one]
