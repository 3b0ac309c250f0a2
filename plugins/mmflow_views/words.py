"""Transforms of text. Words are what stands between spaces; lists of texts (a group axis) change member by member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import Field, TensorType, Transform
from mmflow_views.masking import runs

PLACES = TensorType("labels", size=(None,), dtype="int64")


class TextTransform(Transform):
    """Base of the transforms of text: write `change`. Fields of a joint view that hold no text pass as they are.

    What `adds` names says what was done to the first text of the view.
    """

    def change(self, text: str, generator: Any) -> tuple[str, Any]:
        """The text after it, and the fact that `adds` names."""
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
    """Base of the transforms that change words, and none in evaluation: write `corrupt`.

    Each word is chosen with probability `p`; with `spans`, a share `p` of the words, rounded, in runs of geometric
    lengths of that mean (Joshi et al., SpanBERT, 2020).
    """

    p: float = Field(0.15, ge=0, le=1, description="probability for each word")
    spans: float | None = Field(None, ge=1, description="mean length of runs; none: word by word")

    def change(self, text: str, generator: Any) -> tuple[str, Any]:
        words = text.split()
        if generator is None or not words:
            return text, self.corrupt(words, [False] * len(words), generator)[1]
        words, fact = self.corrupt(words, self.chosen(len(words), generator), generator)
        return " ".join(words), fact

    def chosen(self, count: int, generator: Any) -> Sequence[bool]:
        """Which of so many words are changed."""
        if self.spans is not None:
            return runs(count, round(self.p * count), self.spans, generator)
        return (generator.random(count) < self.p).tolist()

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> tuple[list[str], list[int]]:
        """The words after it, and the places of words that say what was done."""
        raise NotImplementedError


def places(chosen: Sequence[bool]) -> list[int]:
    return [place for place, one in enumerate(chosen) if one]


class DropWords(Corruption, name="drop_words"):
    """Words left out at random; at least one stays. Adds `kept`: the places of those that stay."""

    adds: ClassVar[Mapping[str, TensorType]] = {"kept": PLACES}
    example: ClassVar[str] = "views: {words: {of: caption, apply: [{use: drop_words, p: 0.1}]}}"

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> tuple[list[str], list[int]]:
        kept = places([not drop for drop in chosen])
        if not kept and words:
            kept = [int(generator.integers(len(words)))]
        return [words[place] for place in kept], kept


class CropWords(TextTransform, name="crop_words"):
    """Some words in a row: a share of them drawn from `share`, at a random place; at least one, and all in evaluation.

    Adds `kept`: the places of those that stay.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"kept": PLACES}

    share: tuple[float, float] = Field((0.5, 1.0), description="smallest and largest share of the words")

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


class MaskWords(Corruption, name="mask_words"):
    """Words replaced by a mark; with `merge`, one mark for a run of them (text infilling; Lewis et al., BART, 2020).

    Adds `masked`: the places of the hidden words in the text as it was.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"masked": PLACES}
    example: ClassVar[str] = "views: {masked: {of: caption, apply: [{use: mask_words, p: 0.3, spans: 3, merge: true}]}}"

    mark: str = Field("[MASK]", min_length=1)
    merge: bool = Field(False, description="whether neighbors share a mark")

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> tuple[list[str], list[int]]:
        out = []
        for place, (word, masked) in enumerate(zip(words, chosen, strict=True)):
            if not (self.merge and masked and place and chosen[place - 1]):
                out.append(self.mark if masked else word)
        return out, places(chosen)


class SwapWords(Corruption, name="swap_words"):
    """The chosen words change places among themselves. Adds `order`: where each word stood before."""

    adds: ClassVar[Mapping[str, TensorType]] = {"order": PLACES}

    def corrupt(self, words: list[str], chosen: Sequence[bool], generator: Any) -> tuple[list[str], list[int]]:
        moved = places(chosen)
        order = list(range(len(words)))
        if moved:
            for place, source in zip(moved, generator.permutation(len(moved)).tolist(), strict=True):
                order[place] = moved[source]
        return [words[place] for place in order], order


class ReplaceWords(Corruption, name="replace_words"):
    """Words replaced by one of those that `table` lists for them; words that it does not list stay.

    Adds `replaced`: the places of the words that were replaced.
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


class Template(TextTransform, name="template"):
    """The text put into one of `texts` at `{}`; the first of them in evaluation. Adds `template`: which one."""

    adds: ClassVar[Mapping[str, TensorType]] = {"template": TensorType("label", dtype="int64")}
    example: ClassVar[str] = '{use: template, texts: ["a picture of {}", "{}"]}'

    texts: tuple[str, ...] = Field(min_length=1)

    @field_validator("texts")
    @classmethod
    def _with_place(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            if text.count("{}") != 1:
                raise ValueError(f"{text!r} must hold {{}} once")
        return texts

    def change(self, text: str, generator: Any) -> tuple[str, Any]:
        place = 0 if generator is None else int(generator.integers(len(self.texts)))
        return self.texts[place].replace("{}", text), place


class Lower(TextTransform, name="lower"):
    """Small letters only."""

    def change(self, text: str, generator: Any) -> tuple[str, Any]:
        return text.lower(), None


class ClassName(Transform, name="class_name"):
    """A label as text: the name of its class, or what `names` says in the order of the labels' numbers."""

    example: ClassVar[str] = "views: {word: {of: label, apply: [class_name]}}"

    names: tuple[str, ...] = Field((), description="by default those that the data gives")

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
        if not field.names and not self.names:
            raise ValueError("class_name needs names: the label has none")
        if self.names and field.names and len(field.names) != len(self.names):
            raise ValueError(f"{len(self.names)} names for {len(field.names)} classes")
        if field.names != self.names and set(field.names) == set(self.names):
            raise ValueError(f"the names stand in another order than the classes: {', '.join(field.names)}")
        return TensorType("text", field.axes, groups=field.groups)

    def fitted(self, *fields: TensorType) -> ClassName:
        return self if self.names else self.model_copy(update={"names": fields[0].names})


class Choose(Transform, name="choose"):
    """One member of the first group axis at random (one of several captions), the first one in evaluation.

    Adds `chosen`: its number in the group.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"chosen": TensorType("index", dtype="int64")}
    example: ClassVar[str] = "views: {caption: {of: captions, apply: [choose]}}"

    def apply(self, value: Any, generator: Any) -> Any:
        if isinstance(value, dict):
            raise ValueError("choose takes one field: give it a view of its own")
        members = [place for place, member in enumerate(value) if member is not None]
        if not members:
            return None, {"chosen": None}
        chosen = members[0 if generator is None else int(generator.integers(len(members)))]
        return value[chosen], {"chosen": chosen}

    def result(self, field: TensorType) -> TensorType:
        if len(field.axes) < 2:
            raise ValueError("choose needs a field with a group axis (several captions a sample)")
        return field.with_(axes=(field.axes[0], *field.axes[2:]), groups=field.groups[1:])
