"""Mutants of a spec: the same number always gives the same mutant.

A mutant has one to four changes. Most are made in the tree (a number, a name, an entry), so that they come far; a
tenth is made in the text, as a slip of the hand is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import yaml

from mmflow.plugin.registry import Registration, registry
from mmflow.spec.text.yaml_reader import read_tree

NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 7, 64, 1023, 1024, 65_536, 10**6, 10**9, 2**31, 2**63, 10**12, 10**40, 0.5, -0.0, 1e-300, 1e30,
    1e300, float("inf"), -float("inf"), float("nan"),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, "", [], {}, [[]], {"use": None}, {"use": "same"}, "auto", "a" * 5000, "image.layers.99", "train",
    "x.detach.detach", "data.train", "$vars.nothing", "../..", "\x1b[31m", "ünïcode ☃", [1, 2, 3], ["image", "image"],
    [[[[1]]]], {"a": {"b": {"c": 1}}},
)  # fmt: skip
MARKS = (
    ":",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: ",
    "!!python/object ",
    "\t",
    "'",
    '"',
    "|\n",
    "#",
    "%",
    "\x00",
    "\n",
)

Place = tuple[Any, ...]


def mutant(text: str, number: int) -> bytes:
    """The mutant `number` of a spec."""
    draw = random.Random(f"{number} {len(text)}")
    if draw.random() < 0.1:
        return _slipped(text, draw).encode("utf-8", "surrogatepass")
    tree = _read(text)
    for _ in range(draw.choice((1, 1, 1, 1, 1, 2, 2, 3))):
        _change(tree, draw)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=10**6).encode("utf-8", "surrogatepass")


def _read(text: str) -> Any:
    """The tree as the language reads it: for it `on` is a name, and 1e-3 a number."""
    root = read_tree(text, "spec", [])
    assert root is not None
    return root.plain()


def _slipped(text: str, draw: random.Random) -> str:
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(text))
        kind = draw.randrange(4)
        if kind == 0:
            text = text[:at] + text[at + draw.randint(1, 8) :]
        elif kind == 1:
            text = text[:at] + draw.choice(MARKS) + text[at:]
        elif kind == 2:
            lines = text.split("\n")
            lines.insert(draw.randrange(len(lines)), draw.choice(lines))
            text = "\n".join(lines)
        else:
            text = text[:at] + chr(draw.choice((9, 160, 8232, 65279, draw.randrange(32, 1000)))) + text[at + 1 :]
    return text


def _change(tree: Any, draw: random.Random) -> None:
    places = list(_places(tree))
    if not places:
        return
    place = draw.choice(places)
    owner, key = _at(tree, place[:-1]), place[-1]
    change = draw.choices(
        (_number, _value, _other, _removed, _doubled, _field, _component, _exchanged), (6, 2, 2, 1, 2, 9, 3, 1)
    )
    change[0](tree, owner, key, draw)


def _number(tree: Any, owner: Any, key: Any, draw: random.Random) -> None:
    """Another number where one stands; anywhere else where there is none."""
    places = [place for place in _places(tree) if isinstance(_at(tree, place), int | float)]
    if places:
        place = draw.choice(places)
        owner, key = _at(tree, place[:-1]), place[-1]
    owner[key] = _near(owner[key], draw) if draw.random() < 0.5 else draw.choice(NUMBERS)


def _near(value: Any, draw: random.Random) -> Any:
    """A number that a slip makes of another: one more, a digit too many, a sign."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return draw.choice(NUMBERS)
    return draw.choice((value + 1, value - 1, value * 2, value * 10, value * 100, value * 1000, -value, value / 10))


def _value(tree: Any, owner: Any, key: Any, draw: random.Random) -> None:
    owner[key] = deepcopy(draw.choice(VALUES))


def _other(tree: Any, owner: Any, key: Any, draw: random.Random) -> None:
    """A value of another place."""
    owner[key] = deepcopy(_at(tree, draw.choice(list(_places(tree)))))


def _removed(tree: Any, owner: Any, key: Any, draw: random.Random) -> None:
    del owner[key]


def _doubled(tree: Any, owner: Any, key: Any, draw: random.Random) -> None:
    """The same entry under another name, or twice in a list."""
    if isinstance(owner, list):
        owner.insert(key, deepcopy(owner[key]))
    else:
        owner[f"{key}{draw.choice(('_', '2', '.0', '-'))}"] = deepcopy(owner[key])


def _exchanged(tree: Any, owner: Any, key: Any, draw: random.Random) -> None:
    keys = list(range(len(owner))) if isinstance(owner, list) else list(owner)
    other = draw.choice(keys)
    owner[key], owner[other] = owner[other], owner[key]


def _field(tree: Any, owner: Any, key: Any, draw: random.Random) -> None:
    """A field that the component declares, with any value; most often with a number."""
    places = [place for place in _places(tree) if isinstance(found := _at(tree, place), dict) and "use" in found]
    if not places:
        return
    entry = _at(tree, draw.choice(places))
    classes = [one for one in _registered() if one.name == entry["use"]]
    if not classes:
        return
    found = draw.choice(classes)
    fields = registry().get(found.kind, found.name).model_fields
    if not fields:
        return
    bounded = [name for name in fields if list(_bounds(fields[name]))]
    name = draw.choice(bounded if bounded and draw.random() < 0.7 else list(fields))
    bounds = list(_bounds(fields[name]))
    if bounds and draw.random() < 0.9:
        # The largest that is allowed must be bearable, too.
        entry[name] = draw.choice(bounds)
    else:
        entry[name] = draw.choice(NUMBERS) if draw.random() < 0.5 else deepcopy(draw.choice(VALUES))


def _bounds(field: Any) -> Iterator[Any]:
    """The least and the largest number of a field, and its default times ten."""
    for one in field.metadata:
        yield from (value for name in ("ge", "le") if (value := getattr(one, name, None)) is not None)
    if isinstance(field.default, int | float) and not isinstance(field.default, bool):
        yield field.default * 10
    yield from (value for value in (True, False) if isinstance(field.default, bool))


def _component(tree: Any, owner: Any, key: Any, draw: random.Random) -> None:
    """Another component of the same kind, as its own example writes it, or with the fields that stood there."""
    places = [place for place in _places(tree) if isinstance(found := _at(tree, place), dict) and "use" in found]
    if not places:
        return
    place = draw.choice(places)
    entry = _at(tree, place)
    kinds = {one.kind for one in _registered() if one.name == entry["use"]} or {one.kind for one in _registered()}
    found = draw.choice([one for one in _registered() if one.kind in kinds])
    example = _read(registry().get(found.kind, found.name).example or "{}")
    if draw.random() < 0.5 and isinstance(example, dict) and "use" in example:
        _at(tree, place[:-1])[place[-1]] = {**example, **({"of": entry["of"]} if "of" in entry else {})}
    else:
        entry["use"] = found.name


def _places(tree: Any, place: Place = ()) -> Iterator[Place]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*place, key)
        yield from _places(value, (*place, key))


def _at(tree: Any, place: Place) -> Any:
    for key in place:
        tree = tree[key]
    return tree


def _registered() -> list[Registration]:
    return registry().registrations()
