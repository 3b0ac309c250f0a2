"""Scenes in words: captions and the relations between things."""

from __future__ import annotations

from mmflow_synthetic.scenes import ORDERS, Scene, Thing, pick


def caption(scene: Scene) -> str:
    """All things in words: the main one, then each other by where the main one stands to it."""
    opening, wording, suffix, _ = scene.style
    main, *others = scene.things
    text = with_article(main.words())
    if others:
        parts = [f"{said(relation(main, other), wording)} {with_article(other.words())}" for other in others]
        joined = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
        text = f"{text} {joined}"
    else:
        text = f"{text} {pick(('in the', 'at the'), wording)} {main.place}"
    text = f"{pick(('', '', 'a picture of ', 'there is ', 'we see '), opening)}{text}"
    return f"{text} on {with_article(scene.background)} background" if suffix < 0.25 else text


def relation(one: Thing, other: Thing) -> str:
    """Where `one` stands to `other`: one of `ORDERS` where they lie in different layers, else of `DIRECTIONS`."""
    if one.layer != other.layer:
        return ORDERS[one.layer > other.layer]
    vertical = {-1: "above", 1: "below", 0: ""}[_order(one.place, other.place, "top")]
    horizontal = {-1: "left of", 1: "right of", 0: ""}[_order(one.place, other.place, "left")]
    return f"{vertical} and {horizontal}" if vertical and horizontal else vertical or horizontal


def said(relation: str, wording: float) -> str:
    """A relation in words; `wording` in [0, 1) chooses between synonyms."""
    if relation in ("left of", "right of"):
        return f"to the {relation}" if wording < 0.5 else relation
    return relation if wording < 0.5 else relation.replace("above", "over").replace("below", "under")


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _order(one: str, other: str, word: str) -> int:
    """-1 where only `one` has `word`, 1 where only `other` has it, 0 where they are alike."""
    return (word in other.split()) - (word in one.split())
