"""Mistakes planted into specs that `check` accepts: one each, at a place that the spec has."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from pydantic import BaseModel

from mmflow.plugin import Component
from mmflow.plugin.references import reference_fields
from tests.random_specs.registered import component
from tests.random_specs.values import Limits, limits

KINDS: Mapping[str, str] = {
    "data": "source", "encoders": "encoder", "memories": "memory", "losses": "loss", "stages": "stage",
    "optimizer": "optimizer", "sampler": "sampler", "score": "score", "second": "score", "head": "encoder",
    "tokenizer": "tokenizer", "apply": "transform", "transforms": "transform", "track": "tracker",
}  # fmt: skip
"""The kind of the components under a key."""


@dataclass(frozen=True)
class Written:
    """A component in a spec: the mapping itself, its class, and the section that it stands in."""

    fields: dict[str, Any]
    made: type[Component]
    section: str
    whole: bool
    """Whether it is an entry of a section."""


def components(spec: Mapping[str, Any]) -> Iterator[Written]:
    """Every component of a spec that is written as a mapping, stages inside others left out."""

    def inside(value: Any, kind: str, section: str, depth: int) -> Iterator[Written]:
        if isinstance(value, list):
            for one in value:
                yield from inside(one, kind, section, depth)
        if not isinstance(value, dict):
            return
        use = value.get("use")
        if kind and isinstance(use, str) and use != "repeat":
            yield Written(value, component(kind, use), section, depth == 1)
        for name, one in value.items() if use != "repeat" else ():
            inner = KINDS.get(name, kind if name in ("of", "other") and kind == "source" else "")
            yield from inside(one, inner if use is not None or depth else kind, section, depth + 1)

    for section, entries in spec.items():
        if section == "views":
            for entry in entries.values():
                yield from inside(entry["apply"], "transform", section, 2)
        elif section in KINDS:
            for entry in entries.values():
                yield from inside(entry, KINDS[section], section, 1)


class Nowhere(Exception):
    """The spec has no place for a mistake of this kind."""


Plant = Callable[[dict[str, Any], Random], None]


def planted(spec: Mapping[str, Any], mistake: Plant, random: Random) -> dict[str, Any]:
    """The spec with one mistake; raises `Nowhere`."""
    changed = copy.deepcopy(dict(spec))
    mistake(changed, random)
    return changed


def _one(found: list[Any], random: Random) -> Any:
    if not found:
        raise Nowhere
    return random.choice(found)


def unknown_component(spec: dict[str, Any], random: Random) -> None:
    one = _one(list(components(spec)), random)
    one.fields["use"] = one.fields["use"] + random.choice(["x", "_2", "-"])


def unknown_field(spec: dict[str, Any], random: Random) -> None:
    one = _one(list(components(spec)), random)
    one.fields[random.choice(["nothing", "widht", "of_", "Dim"])] = random.choice([1, "x", None, [1]])


def missing_field(spec: dict[str, Any], random: Random) -> None:
    found = [
        (one.fields, name)
        for one in components(spec)
        for name, info in one.made.model_fields.items()
        if info.is_required() and name in one.fields
    ]
    fields, name = _one(found, random)
    del fields[name]


def no_use(spec: dict[str, Any], random: Random) -> None:
    del _one(list(components(spec)), random).fields["use"]


def wrong_type(spec: dict[str, Any], random: Random) -> None:
    """A mapping, a list of lists or a text where there was a number or a switch."""
    found = [
        (one.fields, name)
        for one in components(spec)
        for name, value in one.fields.items()
        if isinstance(value, int | float) and name in one.made.model_fields
    ]
    fields, name = _one(found, random)
    fields[name] = random.choice([{"a": 1}, [[1]], "many", [], {}])


def out_of_bounds(spec: dict[str, Any], random: Random) -> None:
    found = [(one.fields, name, bad) for one in components(spec) for name, bad in _beyond(one.made)]
    fields, name, bad = _one(found, random)
    fields[name] = bad


def _beyond(made: type[BaseModel]) -> Iterator[tuple[str, float]]:
    """Numbers outside the bounds of the fields of a declaration."""
    for name, info in made.model_fields.items():
        known: Limits = limits(info.metadata)
        if info.annotation not in (int, float):
            continue
        if known.low is not None:
            yield name, known.low if known.above else known.low - 1
        if known.high is not None:
            yield name, known.high if known.below else known.high + 1


def unknown_reference(spec: dict[str, Any], random: Random) -> None:
    fields, name = _one(list(_references(spec)), random)
    fields[name] = random.choice(["nowhere", "nowhere.tokens", "encoders.nowhere", "fields.nowhere"])


def unknown_output(spec: dict[str, Any], random: Random) -> None:
    encoders = spec.get("encoders", {})
    found = [(f, n) for f, n in _references(spec) if isinstance(f[n], str) and f[n] in encoders]
    fields, name = _one([(f, n) for f, n in found if not _of_unknown_size(spec, f[n])], random)
    fields[name] = fields[name] + random.choice([".nothing", ".pooled.tokens", ".layers.77"])


def member_of_no_group(spec: dict[str, Any], random: Random) -> None:
    found = [(f, n) for f, n in _references(spec) if isinstance(f[n], str) and f[n] in spec.get("encoders", {})]
    fields, name = _one([(f, n) for f, n in found if not _of_unknown_size(spec, f[n])], random)
    fields[name] = fields[name] + ".77"


def _of_unknown_size(spec: Mapping[str, Any], name: str) -> bool:
    """Whether an encoder reads a group of which the data alone know how many members it has."""
    return any(_reads(spec, name, field) for field in ("options", "twins"))


def _reads(spec: Mapping[str, Any], name: str, field: str) -> bool:
    """Whether an encoder or a view reads a field, by itself or through others."""
    for section in ("encoders", "views"):
        of = spec.get(section, {}).get(name, {}).get("of")
        for word in of if isinstance(of, list) else [of]:
            first = str(word).split(".")[0]
            if first == field or (first != name and _reads(spec, first, field)):
                return True
    return name == field


def reference_of_another_kind(spec: dict[str, Any], random: Random) -> None:
    """A loss, a stage or an entry of data where an encoder or a field is named."""
    others = [f"{section}.{name}" for section in ("losses", "data") for name in spec.get(section, {})]
    fields, name = _one(list(_references(spec)), random)
    fields[name] = _one(others, random)


def no_reference(spec: dict[str, Any], random: Random) -> None:
    fields, name = _one(list(_references(spec)), random)
    fields[name] = random.choice(["two words", "a..b", ".a", "a.", 7, {"of": "x"}, "x/y", ""])


def _references(spec: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Mappings with the names of their fields that hold references to encoders, views and fields."""
    for one in components(spec):
        for name in reference_fields(one.made):
            if name in one.fields and one.section in ("encoders", "losses", "memories"):
                yield one.fields, name


def unknown_data(spec: dict[str, Any], random: Random) -> None:
    stages = [stage for stage in spec["stages"].values() if "data" in stage]
    _one(stages, random)["data"] = random.choice(["nowhere", "one.image", "stages.train"])


def unknown_loss(spec: dict[str, Any], random: Random) -> None:
    train = spec["stages"].get("train")
    if train is None:
        raise Nowhere
    train["losses"] = random.choice([["nowhere"], ["loss0", "nowhere"], "loss0", []])


def two_lengths(spec: dict[str, Any], random: Random) -> None:
    train = spec["stages"].get("train")
    if train is None:
        raise Nowhere
    train |= random.choice([{"steps": 2, "epochs": 1}, {"steps": None, "epochs": None}])


def reads_itself(spec: dict[str, Any], random: Random) -> None:
    """An encoder that reads the one that reads it."""
    one, other = "around_a", "around_b"
    spec.setdefault("encoders", {})[one] = {"use": "linear", "of": other, "dim": 4}
    spec["encoders"][other] = {"use": "linear", "of": one, "dim": 4}


def unknown_section(spec: dict[str, Any], random: Random) -> None:
    spec[random.choice(["encoder", "loses", "nothing"])] = {"a": {"use": "linear"}}


def unknown_variable(spec: dict[str, Any], random: Random) -> None:
    one = _one(list(components(spec)), random)
    one.fields[_one([name for name in one.fields if name != "use"] or ["of"], random)] = "$vars.nothing"


MISTAKES: tuple[Plant, ...] = (
    unknown_component, unknown_field, missing_field, no_use, wrong_type, out_of_bounds, unknown_reference,
    unknown_output, member_of_no_group, reference_of_another_kind, no_reference, unknown_data, unknown_loss,
    two_lengths, reads_itself, unknown_section, unknown_variable,
)  # fmt: skip
