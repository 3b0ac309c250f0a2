"""Synthetic sentences: a small grammar with paraphrase, negation, translation and graded similarity."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

from mmflow.plugin import TensorType, address
from mmflow_synthetic.base import Synthetic

SLOTS: dict[str, tuple[tuple[str, str], ...]] = {
    "mood": (("old", "aged"), ("young", "youthful"), ("happy", "cheerful"), ("sad", "unhappy"), ("quiet", "silent")),
    "agent": (
        ("doctor", "physician"), ("teacher", "instructor"), ("boy", "lad"), ("sailor", "seaman"), ("farmer", "grower"),
        ("thief", "burglar"),
    ),
    "action": (("buys", "purchases"), ("finds", "discovers"), ("fixes", "repairs"), ("hides", "conceals"),
               ("watches", "observes"), ("sells", "vends")),
    "object": (
        ("car", "automobile"), ("picture", "image"), ("stone", "rock"), ("coat", "jacket"), ("gift", "present"),
        ("boat", "ship"), ("house", "home"),
    ),
    "place": (("in the forest", "in the woods"), ("on the street", "on the road"), ("at the shop", "at the store"),
              ("near the sea", "by the ocean"), ("in the town", "in the city")),
}  # fmt: skip
"""The words for each part of a sentence, each with a synonym."""

Meaning = tuple[int, ...]

TENTHS = {"train": (0, 1, 2, 3, 4, 5), "validation": (6, 7), "test": (8, 9)}
"""Which tenths of all meanings a split draws from: there are few enough that chance would not keep them apart."""


class Sentences(Synthetic, name="sentences"):
    """Sentences such as "the old doctor buys a car in the forest", with others of known relation to them.

    Fields: `sentence`; `paraphrase` (the same meaning in other words); `negation` ("... does not buy ..."); `swapped`
    (the same words, another meaning: the mood goes to the object); `translation` (a second vocabulary and word order,
    one word for each meaning); `other` (a sentence that shares some of the five parts) and `similarity` (the share of
    parts that are equal, 0 to 1 in steps of 0.2); `label` (the agent); and the parts `mood`, `agent`, `action`,
    `object`, `place` as classes. A meaning belongs to one split, whatever the seed; within a split it may come again.
    """

    example: ClassVar[str] = "data: {train: {use: sentences, split: train, size: 4000}}"

    split: Literal["train", "validation", "test"] = "train"  # pyright: ignore[reportIncompatibleVariableOverride]

    def fields(self) -> Mapping[str, TensorType]:
        def part(slot: str) -> TensorType:
            return TensorType("label", dtype="int64", names=tuple(words[0] for words in SLOTS[slot]))

        texts = ("sentence", "paraphrase", "negation", "swapped", "translation", "other")
        return {
            "id": TensorType("id"),
            **{name: TensorType("text") for name in texts},
            "similarity": TensorType("number"),
            "label": part("agent"),
            **{slot: part(slot) for slot in SLOTS},
        }

    def draw(self, generator: Any, wanted: Collection[str]) -> dict[str, Any]:
        equal = int(generator.integers(len(SLOTS) + 1))
        meaning, other = self._meanings(generator, equal)
        return {
            "sentence": say(meaning),
            "paraphrase": say(meaning, synonyms=True),
            "negation": say(meaning, negated=True),
            "swapped": say(meaning, swapped=True),
            "translation": translate(meaning),
            "other": say(other),
            "similarity": equal / len(SLOTS),
            "label": meaning[1],
            **dict(zip(SLOTS, meaning, strict=True)),
        }

    def _meanings(self, generator: Any, equal: int) -> tuple[Meaning, Meaning]:
        """Two meanings of this split with `equal` parts in common."""
        counts = [len(words) for words in SLOTS.values()]
        while True:
            meaning = tuple(generator.integers(counts).tolist())
            if split_of(meaning) != self.split:
                continue
            # A meaning may have no neighbor in its split: after some tries another one is drawn.
            for _ in range(20):
                kept = set(generator.permutation(len(SLOTS))[:equal].tolist())
                shift = generator.integers(1, counts).tolist()
                other = tuple(
                    value if place in kept else (value + shift[place]) % counts[place]
                    for place, value in enumerate(meaning)
                )
                if split_of(other) == self.split:
                    return meaning, other


@lru_cache(maxsize=10_000)
def split_of(meaning: Meaning) -> str:
    """The split that a meaning belongs to."""
    tenth = address("sentences", *meaning) % 10
    return next(split for split, tenths in TENTHS.items() if tenth in tenths)


def say(meaning: Meaning, *, synonyms: bool = False, negated: bool = False, swapped: bool = False) -> str:
    """A meaning (a number for each slot) in words."""
    mood, agent, action, thing, place = (
        words[number][int(synonyms)] for words, number in zip(SLOTS.values(), meaning, strict=True)
    )
    verb = f"does not {_base(action)}" if negated else action
    if swapped:
        return f"the {agent} {verb} {_article(mood)} {mood} {thing} {place}"
    if synonyms:
        return f"{place}, the {mood} {agent} {verb} {_article(thing)} {thing}"
    return f"the {mood} {agent} {verb} {_article(thing)} {thing} {place}"


def translate(meaning: Meaning) -> str:
    """The meaning in the second vocabulary: place, object, agent, mood, action, one word for each."""
    words = [_foreign(slot, number) for slot, number in enumerate(meaning)]
    return " ".join(words[slot] for slot in (4, 3, 1, 0, 2))


def _foreign(slot: int, number: int) -> str:
    """A word of two syllables that begins as its part of speech does."""
    return f"{'mtkvs'[slot]}{'aeiou'[number % 5]}{'lrndb'[(number // 5 + slot) % 5]}{'ouaie'[number % 5]}"


def _base(verb: str) -> str:
    endings: Sequence[tuple[str, str]] = (("ches", "ch"), ("xes", "x"), ("s", ""))
    for ending, without in endings:
        if verb.endswith(ending):
            return verb.removesuffix(ending) + without
    return verb


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
