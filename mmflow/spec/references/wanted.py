"""The references in the fields of a component, and where each type of reference may lead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pydantic import BaseModel

from mmflow.plugin.component import Component, Shared
from mmflow.plugin.kinds import Encoder
from mmflow.plugin.modality import is_raw, modality
from mmflow.plugin.references import (
    Array,
    Bank,
    Column,
    Data,
    Encoded,
    Files,
    Grid,
    Ids,
    Index,
    Labels,
    Metrics,
    Model,
    Parameters,
    Pooled,
    RawField,
    Ref,
    RefType,
    Sampled,
    Static,
    TokenSequence,
    Weight,
    Written,
    reference_fields,
)
from mmflow.plugin.targets import Place, Target
from mmflow.plugin.values import TensorType
from mmflow.spec.components.classes import VALUES, models_in


class Output(RefType):
    """A single output of an encoder, where a stage takes encodings: it then is what is measured."""

    says = Encoded.says


LEADS_TO: Mapping[type[RefType], tuple[str, ...]] = {
    Encoded: ("encoders",),
    Output: ("encoders",),
    Pooled: ("encoders", "fields", "views", "sampler"),
    TokenSequence: ("encoders",),
    Grid: ("encoders",),
    Array: ("encoders", "fields", "views", "sampler"),
    Ids: ("fields",),
    RawField: ("fields", "views", "sampler"),
    Sampled: ("fields", "stages"),
    Labels: ("encoders", "fields", "views", "sampler"),
    Index: ("encoders", "sampler"),
    Weight: ("encoders", "fields", "views", "sampler"),
    Bank: ("memories",),
    Parameters: ("encoders", "losses", "parts"),
    Data: ("data", "stages"),
    Model: ("stages",),
    Column: ("stages",),
    Static: ("stages",),
    Files: ("stages",),
    Metrics: ("stages",),
}


GIVEN_BY: Mapping[type[RefType], tuple[str, ...]] = {
    Encoded: VALUES,
    Output: VALUES,
    Pooled: VALUES,
    Array: VALUES,
    RawField: VALUES,
    Sampled: ("Column",),
    Labels: VALUES,
    Index: VALUES,
    Weight: VALUES,
    Bank: ("Static",),
    Data: ("Data",),
    Model: ("Model",),
    Column: ("Column",),
    Static: ("Static",),
    Files: ("Files",),
    Metrics: ("Metrics",),
}
"""The types of stages' outputs that a reference may lead to."""


@dataclass(frozen=True)
class Wanted:
    """A reference as a field holds it, and where it may lead."""

    place: Place
    words: tuple[str, ...]
    types: tuple[type[RefType], ...]
    """Accepted types; none for a path to a shared component."""
    kind: str = ""
    """The kind of a shared component."""
    raw: bool = False
    """Whether it is an input of an encoder that accepts raw data alone (images, texts, sound)."""


def references(made: BaseModel | None, behind: Encoder | None = None) -> Iterator[Wanted]:
    """Every reference and shared path inside a component; `behind` is the encoder that an application applies."""
    for found in _inside(made, ()):
        if behind is not None and found.place[0] == "of":
            yield replace(found, types=reference_fields(type(behind))["of"], raw=_takes_raw(behind, found.place))
            continue
        raw = isinstance(made, Encoder) and _takes_raw(made, found.place)
        yield replace(found, raw=raw) if raw else found


def _inside(made: BaseModel | None, place: Place) -> Iterator[Wanted]:
    if made is None:
        return
    wanted = reference_fields(type(made))
    for name, info in type(made).model_fields.items():
        value = getattr(made, name)
        if value is None or isinstance(value, int | float):
            continue
        kinds = [model.kind for model in models_in(info.annotation) if issubclass(model, Component)]
        kind = kinds[0] if kinds else ""
        yield from _leaves(value, (*place, info.alias or name), wanted.get(name, ()), kind)


def _takes_raw(made: Encoder, place: Place) -> bool:
    if not made.accepts or place[0] != "of":
        return False
    number = place[1] if len(place) > 1 and isinstance(place[1], int) else 0
    return all(map(is_raw, made.accepts[min(number, len(made.accepts) - 1)]))


def _leaves(value: Written, place: Place, wanted: tuple[type[RefType], ...], kind: str) -> Iterator[Wanted]:
    if isinstance(value, Shared):
        yield Wanted(place, value.words, (), kind)
    elif isinstance(value, Ref):
        yield Wanted(place, value.path, wanted)
    elif isinstance(value, BaseModel):
        yield from _inside(value, place)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, (*place, name), wanted, kind)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, (*place, index), wanted, kind)


def is_number(target: Target) -> bool:
    """Whether a path in a field that holds a number leads to one a row, or to constants, and not to the number of
    another component."""
    return target.section not in ("losses", "parts") and not target.field


def is_kept(kind: str, declared: TensorType | None) -> bool:
    """Whether a value of a stage inside another is stored with that one: not vectors of rows, which are large."""
    if kind != "Column" or declared is None or declared.modality == "unknown":
        return True
    return modality(declared.modality).role not in ("vector", "tokens", "grid")


def fits(wanted: tuple[type[RefType], ...], target: Target, declared: TensorType | None) -> bool:
    return any(_fit(kind, target, declared) for kind in wanted if target.section in LEADS_TO[kind])


def fits_output(wanted: tuple[type[RefType], ...], given: str, target: Target, declared: TensorType | None) -> bool:
    """Whether an output of a stage, of the type `given`, is of use for a reference."""
    kinds = [kind for kind in wanted if given in GIVEN_BY.get(kind, ())]
    return any(given not in VALUES or _fit(kind, target, declared) for kind in kinds)


def _fit(kind: type[RefType], target: Target, declared: TensorType | None) -> bool:
    if kind is Encoded and target.section == "encoders":
        return target.output is None
    if (
        kind in (Column, Static)
        or declared is None
        or kind in (RawField, Sampled, Parameters, Output)
        or declared.modality == "unknown"
    ):
        return True
    if kind is Ids:
        return declared.modality == "id"
    form = modality(declared.modality)
    if kind is Array:
        return form.role not in ("raw", "tokens")
    if kind is Pooled:
        if target.section == "encoders":
            return form.role not in ("tokens", "grid", "index") and len(declared.size) <= 1
        return form.role != "raw"
    if kind is TokenSequence:
        return form.role not in ("vector", "grid", "raw")
    if kind is Grid:
        return form.role == "grid"
    if kind in (Labels, Index):
        whole = form.discrete or declared.dtype.startswith(("int", "uint", "bool"))
        return form.role != "raw" and len(declared.size) <= 1 and whole
    if kind is Weight:
        return form.role == "value" and not declared.size
    return form.role != "raw"
