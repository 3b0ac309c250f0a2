"""Scenes of colored shapes: what is where, and how it is said. `drawing` makes pictures of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 225),
    "yellow": (235, 215, 50),
    "purple": (150, 60, 190),
    "orange": (240, 140, 30),
    "white": (240, 240, 240),
    "cyan": (60, 200, 215),
}
BACKGROUNDS = {"black": (15, 15, 15), "gray": (110, 110, 110), "brown": (90, 60, 40), "navy": (25, 30, 75)}
SIZES = {"small": 0.09, "medium": 0.14, "large": 0.2}
"""Radius of the circumscribed circle as a share of the picture's side."""
PLACES = ("top left", "top right", "bottom left", "bottom right")
CENTER = "center"
"""Where the main thing of a pile is, its others around it in the directions of `PLACES`."""
DIRECTIONS = (
    "above", "below", "left of", "right of", "above and left of", "above and right of", "below and left of",
    "below and right of",
)  # fmt: skip
LAYERS = ("front", "middle", "back")
"""From the nearest to the farthest; the main thing is in the middle."""
ORDERS = ("in front of", "behind")
CHANGES = ("attribute", "object", "order", "number")
"""What a hard caption or a minimal pair has wrong."""
MOST = 4
"""Things in a scene."""
JITTER = 10
"""Largest change of a color channel from its name's value."""


@dataclass(frozen=True)
class Thing:
    """One shape: attributes by name, center and radius as shares of the picture's side, color as drawn."""

    shape: str
    color: str
    size: str
    place: str
    x: float
    y: float
    radius: float
    rgb: tuple[int, int, int]
    layer: int = 1
    """Place in `LAYERS`; things of one layer lie in their order in the scene, the first in front."""

    def words(self) -> str:
        return f"{self.size} {self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Things on a background, the main one first: the only one of its size, and the largest."""

    things: tuple[Thing, ...]
    background: str
    rgb: tuple[int, int, int]
    style: tuple[float, ...]
    """Numbers in [0, 1) that choose among ways to say it."""


def draw_scene(generator: Any, shapes: Sequence[str], colors: Sequence[str], objects: tuple[int, int]) -> Scene:
    """A scene at random: every factor uniform, places without overlap (one quarter of the picture each)."""
    draws = generator.random(64).tolist()
    take = iter(draws).__next__
    count = objects[0] + int(take() * (objects[1] - objects[0] + 1))
    background = _pick(tuple(BACKGROUNDS), take())
    rgb = _jittered(BACKGROUNDS[background], take)
    places = list(PLACES)
    names = tuple(SIZES)
    # With company the main thing must be larger than the rest, so it is at least medium.
    largest = int(take() * 3) if count == 1 else 1 + int(take() * 2)
    things = []
    for position in range(count):
        size = names[largest] if position == 0 else names[int(take() * largest)]
        place = places.pop(int(take() * len(places)))
        radius = SIZES[size] * (0.94 + 0.12 * take())
        free = 0.25 - radius - 0.02
        column, row = PLACES.index(place) % 2, PLACES.index(place) // 2
        color = _pick(colors, take())
        things.append(
            Thing(
                shape=_pick(shapes, take()),
                color=color,
                size=size,
                place=place,
                x=0.25 + 0.5 * column + free * (2 * take() - 1),
                y=0.25 + 0.5 * row + free * (2 * take() - 1),
                radius=radius,
                rgb=_jittered(COLORS[color], take),
            )
        )
    return Scene(tuple(things), background, rgb, tuple(draws[-4:]))


def draw_pile(generator: Any, shapes: Sequence[str], colors: Sequence[str], objects: tuple[int, int]) -> Scene:
    """A scene in which each other thing lies in front of the main one or behind it, and differs from it in color."""
    from mmflow_worlds.drawing import laid

    draws = generator.random(64).tolist()
    take = iter(draws).__next__
    count = objects[0] + int(take() * (objects[1] - objects[0] + 1))
    background = _pick(tuple(BACKGROUNDS), take())
    rgb = _jittered(BACKGROUNDS[background], take)
    names, places = tuple(SIZES), list(PLACES)
    largest = 1 + int(take() * 2)
    main = None
    things: list[Thing] = []
    for _ in range(count):
        size = names[largest] if main is None else names[int(take() * largest)]
        color = _pick(colors if main is None else [color for color in colors if color != main.color], take())
        thing = Thing(
            shape=_pick(shapes, take()),
            color=color,
            size=size,
            place=CENTER if main is None else places.pop(int(take() * len(places))),
            x=0.5 + 0.04 * (2 * take() - 1),
            y=0.5 + 0.04 * (2 * take() - 1),
            radius=SIZES[size] * (0.94 + 0.12 * take()),
            rgb=_jittered(COLORS[color], take),
            layer=1 if main is None else 2 * int(2 * take()),
        )
        main = main or thing
        things.append(thing if thing is main else laid(thing, main))
    return Scene(tuple(things), background, rgb, tuple(draws[-4:]))


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
        text = f"{text} {_pick(('in the', 'at the'), wording)} {main.place}"
    text = f"{_pick(('', '', 'a picture of ', 'there is ', 'we see '), opening)}{text}"
    return f"{text} on {with_article(scene.background)} background" if suffix < 0.25 else text


def altered(scene: Scene, change: str, shapes: Sequence[str], colors: Sequence[str]) -> Scene:
    """The scene with one thing changed, so that its caption is wrong for the first one and nearly the same.

    `attribute`: the first two things change colors, `object`: shapes, `order`: places, or who is in front in a pile.
    Where they are alike or there is only one, the main thing gets the next color or shape of the list, or the opposite
    place. `number`: the last thing is there once more, in a free place; of four things it goes.
    """
    from mmflow_worlds.drawing import laid

    main, *others = scene.things
    piled = main.place == CENTER
    if change == "number":
        if len(scene.things) == MOST:
            return replace(scene, things=scene.things[:-1])
        last = scene.things[-1]
        taken = {thing.place for thing in scene.things}
        place = next(place for place in PLACES if place not in taken)
        more = laid(replace(last, place=place), main) if piled else _moved(last, place)
        return replace(scene, things=(*scene.things, more))
    if change == "order" and piled:
        changed = [main, replace(others[0], layer=2 - others[0].layer)]
    elif change == "order":
        place = others[0].place if others else PLACES[3 - PLACES.index(main.place)]
        changed = [_moved(main, place)]
        if others:
            changed.append(_moved(others[0], main.place))
    elif change == "attribute":
        if others and others[0].color != main.color:
            other = others[0]
            changed = [replace(main, color=other.color, rgb=other.rgb), replace(other, color=main.color, rgb=main.rgb)]
        else:
            color = _next(main.color, colors)
            changed = [replace(main, color=color, rgb=COLORS[color])]
    elif others and others[0].shape != main.shape:
        changed = [replace(main, shape=others[0].shape), replace(others[0], shape=main.shape)]
    else:
        changed = [replace(main, shape=_next(main.shape, shapes))]
    changed += scene.things[len(changed) :]
    if piled and change == "object":
        changed[1:] = [laid(other, changed[0]) for other in changed[1:]]
    return replace(scene, things=tuple(changed))


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


def _pick(options: Sequence[str], draw: float) -> str:
    return options[int(draw * len(options))]


def _next(name: str, names: Sequence[str]) -> str:
    return names[(names.index(name) + 1) % len(names)]


def _moved(thing: Thing, place: str) -> Thing:
    return replace(thing, place=place, x=0.25 + 0.5 * ("right" in place), y=0.25 + 0.5 * ("bottom" in place))


def _jittered(rgb: tuple[int, int, int], take: Callable[[], float]) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, c + int((2 * take() - 1) * JITTER))) for c in rgb)
    return red, green, blue


def _order(one: str, other: str, word: str) -> int:
    """-1 where only `one` has `word`, 1 where only `other` has it, 0 where they are alike."""
    return (word in other.split()) - (word in one.split())
