"""Scenes drawn at random, side by side or overlapping, and changed in one way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mmflow_synthetic.drawing import coverage
from mmflow_synthetic.scenes import (
    BACKGROUNDS,
    CENTER,
    COLORS,
    JITTER,
    MOST,
    PLACES,
    SIZES,
    Scene,
    Thing,
    pick,
)


def draw_scene(generator: Any, shapes: Sequence[str], colors: Sequence[str], objects: tuple[int, int]) -> Scene:
    """A scene at random: every factor uniform, places without overlap (one quarter of the image each)."""
    draws = generator.random(64).tolist()
    take = iter(draws).__next__
    count = objects[0] + int(take() * (objects[1] - objects[0] + 1))
    background = pick(tuple(BACKGROUNDS), take())
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
        color = pick(colors, take())
        things.append(
            Thing(
                shape=pick(shapes, take()),
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
    draws = generator.random(64).tolist()
    take = iter(draws).__next__
    count = objects[0] + int(take() * (objects[1] - objects[0] + 1))
    background = pick(tuple(BACKGROUNDS), take())
    rgb = _jittered(BACKGROUNDS[background], take)
    names, places = tuple(SIZES), list(PLACES)
    largest = 1 + int(take() * 2)
    main = None
    things: list[Thing] = []
    for _ in range(count):
        size = names[largest] if main is None else names[int(take() * largest)]
        color = pick(colors if main is None else [color for color in colors if color != main.color], take())
        thing = Thing(
            shape=pick(shapes, take()),
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


def altered(scene: Scene, change: str, shapes: Sequence[str], colors: Sequence[str]) -> Scene:
    """The scene with one thing changed, so that its caption is wrong for the first one and nearly the same.

    `attribute`: the first two things change colors, `object`: shapes, `order`: places, or the order in depth of a pile.
    Where they are alike or there is only one, the main thing gets the next color or shape of the list, or the opposite
    place. `number`: the last thing is there once more, in a free place; of four things it goes.
    """
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


def laid(thing: Thing, main: Thing) -> Thing:
    """The thing brought to the main one from its corner until a quarter of what it covers is covered by both."""
    right, down = 2 * ("right" in thing.place) - 1, 2 * ("bottom" in thing.place) - 1
    side = 64
    covered = np.zeros((side, side), dtype=np.float32)
    window, cover = coverage(main, side)
    covered[window] = cover
    moved = thing
    for step in range(24):
        away = (main.radius + thing.radius) * (0.96 - 0.04 * step) * 0.7071068
        moved = replace(thing, x=main.x + right * away, y=main.y + down * away)
        window, cover = coverage(moved, side)
        if np.minimum(covered[window], cover).sum() >= 0.25 * cover.sum():
            break
    return moved


def _next(name: str, names: Sequence[str]) -> str:
    return names[(names.index(name) + 1) % len(names)]


def _moved(thing: Thing, place: str) -> Thing:
    return replace(thing, place=place, x=0.25 + 0.5 * ("right" in place), y=0.25 + 0.5 * ("bottom" in place))


def _jittered(rgb: tuple[int, int, int], take: Callable[[], float]) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, c + int((2 * take() - 1) * JITTER))) for c in rgb)
    return red, green, blue
