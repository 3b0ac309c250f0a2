"""Transforms of text. Words are what stands between spaces; lists of texts (a group axis) change member by member."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import Field, TensorType, Transform


class TextTransform(Transform):
    """Base of the transforms of text: write `change`. Fields of a joint view that hold no text pass as they are."""

    def change(self, text: str, generator: Any) -> str:
        raise NotImplementedError

    def apply(self, value: Any, generator: Any) -> Any:
        if isinstance(value, str):
            return self.change(value, generator)
        if isinstance(value, dict):
            return {name: self.apply(part, generator) for name, part in value.items()}
        if isinstance(value, list):
            return [self.apply(member, generator) for member in value]
        return value


class Corruption(TextTransform):
    """Base of the transforms that change words with probability `p` each, and none in evaluation."""

    p: float = Field(0.15, ge=0, le=1, description="probability for each word")

    def change(self, text: str, generator: Any) -> str:
        words = text.split()
        if generator is None or not words:
            return text
        return " ".join(self.corrupt(words, generator.random(len(words)) < self.p, generator))

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> list[str]:
        raise NotImplementedError


class DropWords(Corruption, name="drop_words"):
    """Words left out at random; at least one stays."""

    example: ClassVar[str] = "views: {words: {of: caption, apply: [{use: drop_words, p: 0.1}]}}"

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> list[str]:
        kept = [word for word, drop in zip(words, chosen, strict=True) if not drop]
        return kept or [words[int(generator.integers(len(words)))]]


class MaskWords(Corruption, name="mask_words"):
    """Words replaced by a mark."""

    mark: str = Field("[MASK]", min_length=1)

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> list[str]:
        return [self.mark if masked else word for word, masked in zip(words, chosen, strict=True)]


class SwapWords(Corruption, name="swap_words"):
    """The chosen words change places among themselves."""

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> list[str]:
        places = [place for place, moved in enumerate(chosen) if moved]
        out = list(words)
        for place, source in zip(places, generator.permutation(len(places)).tolist(), strict=True):
            out[place] = words[places[source]]
        return out


class ReplaceWords(Corruption, name="replace_words"):
    """Words replaced by one of those that `table` lists for them; words that it does not list stay."""

    example: ClassVar[str] = "{use: replace_words, p: 0.5, table: {red: [crimson], circle: [disc, round shape]}}"

    table: dict[str, tuple[str, ...]] = Field(min_length=1)

    @field_validator("table")
    @classmethod
    def _not_empty(cls, table: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for word, others in table.items():
            if not others:
                raise ValueError(f"no replacement for {word!r}")
        return table

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> list[str]:
        draws = generator.random(len(words)).tolist()
        out = []
        for word, replaced, draw in zip(words, chosen, draws, strict=True):
            others = self.table.get(word, ()) if replaced else ()
            out.append(others[int(draw * len(others))] if others else word)
        return out


class Template(TextTransform, name="template"):
    """The text put into one of `texts` at `{}`; the first of them in evaluation."""

    example: ClassVar[str] = '{use: template, texts: ["a picture of {}", "{}"]}'

    texts: tuple[str, ...] = Field(min_length=1)

    @field_validator("texts")
    @classmethod
    def _with_place(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            if text.count("{}") != 1:
                raise ValueError(f"{text!r} must hold {{}} once")
        return texts

    def change(self, text: str, generator: Any) -> str:
        place = 0 if generator is None else int(generator.integers(len(self.texts)))
        return self.texts[place].replace("{}", text)


class Lower(TextTransform, name="lower"):
    """Small letters only."""

    def change(self, text: str, generator: Any) -> str:
        return text.lower()


class ClassName(Transform, name="class_name"):
    """A label as text: the name of its class, `names` in the order of the labels' numbers."""

    example: ClassVar[str] = "views: {word: {of: label, apply: [{use: class_name, names: [cat, dog]}]}}"

    names: tuple[str, ...] = Field(min_length=1)

    def apply(self, value: Any, generator: Any) -> Any:
        if isinstance(value, dict):
            raise ValueError("class_name takes one field: give it a view of its own")
        if isinstance(value, list):
            return [None if member is None else self.apply(member, generator) for member in value]
        if not 0 <= int(value) < len(self.names):
            raise ValueError(f"label {int(value)} has no name among {len(self.names)}")
        return self.names[int(value)]

    def result(self, field: TensorType) -> TensorType:
        if field.modality != "label":
            raise ValueError(f"class_name needs a label, got {field.modality}")
        if field.names and len(field.names) != len(self.names):
            raise ValueError(f"{len(self.names)} names for {len(field.names)} classes")
        return TensorType("text", field.axes, groups=field.groups)


class Choose(Transform, name="choose"):
    """One member of the first group axis at random (one of several captions), the first one in evaluation."""

    example: ClassVar[str] = "views: {caption: {of: captions, apply: [choose]}}"

    def apply(self, value: Any, generator: Any) -> Any:
        if isinstance(value, dict):
            raise ValueError("choose takes one field: give it a view of its own")
        members = [member for member in value if member is not None]
        if not members:
            return None
        return members[0 if generator is None else int(generator.integers(len(members)))]

    def result(self, field: TensorType) -> TensorType:
        if len(field.axes) < 2:
            raise ValueError("choose needs a field with a group axis (several captions a sample)")
        return field.with_(axes=(field.axes[0], *field.axes[2:]), groups=field.groups[1:])
