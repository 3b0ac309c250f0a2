"""What the fields of a component want of references: the references themselves, and what each type accepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from mmflow.plugin.component import Component, Shared
from mmflow.plugin.kinds import Encoder
from mmflow.plugin.modality import is_raw, modality
from mmflow.plugin.references import (
    Bank,
    Column,
    Data,
    Encoded,
    Files,
    Grid,
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
    reference_fields,
)
from mmflow.plugin.values import TensorType
from mmflow.spec.classes import models_in
from mmflow.spec.problems import Path
from mmflow.spec.target import Target


class Output(RefType):
    """A single output of an encoder, where a stage takes encodings: it then is what is measured."""

    says = Encoded.says


LEADS_TO: Mapping[type[RefType], tuple[str, ...]] = {
    Encoded: ("encoders",),
    Output: ("encoders",),
    Pooled: ("encoders", "fields", "views", "sampler"),
    TokenSequence: ("encoders",),
    Grid: ("encoders",),
    RawField: ("fields", "views", "sampler"),
    Sampled: ("fields", "stages"),
    Labels: ("encoders", "fields", "views", "sampler"),
    Index: ("encoders", "sampler"),
    Weight: ("encoders", "fields", "views", "sampler"),
    Bank: ("memories",),
    Parameters: ("encoders", "losses", "parts", "memories"),
    Data: ("data", "stages"),
    Model: ("stages",),
    Column: ("stages",),
    Static: ("stages",),
    Files: ("stages",),
    Metrics: ("stages",),
}


def references(made: Any, path: Path = ()) -> Iterator[tuple[Path, str, tuple[type[RefType], ...], str]]:
    """Every reference and shared path inside a component: where, what, the accepted types, the expected kind."""
    if not isinstance(made, BaseModel):
        return
    wanted = reference_fields(type(made))
    for name, info in type(made).model_fields.items():
        kinds = [model.kind for model in models_in(info.annotation) if issubclass(model, Component)]
        kind = kinds[0] if kinds else ""
        yield from _leaves(getattr(made, name), (*path, info.alias or name), wanted.get(name, ()), kind)


def takes_raw(made: Any, path: Path) -> bool:
    """Whether a reference is an input of an encoder that accepts nothing but raw data (pictures, texts, sound)."""
    if not isinstance(made, Encoder) or not made.accepts or not path or path[0] != "of":
        return False
    place = path[1] if len(path) > 1 and isinstance(path[1], int) else 0
    return all(map(is_raw, made.accepts[min(place, len(made.accepts) - 1)]))


def _leaves(
    value: Any, path: Path, wanted: tuple[type[RefType], ...], kind: str
) -> Iterator[tuple[Path, str, tuple[type[RefType], ...], str]]:
    if isinstance(value, Shared):
        yield path, value.path, (), kind
    elif isinstance(value, Ref):
        yield path, str(value), wanted, ""
    elif isinstance(value, BaseModel):
        yield from references(value, path)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, (*path, name), wanted, kind)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index), wanted, kind)


def fits(wanted: tuple[type[RefType], ...], target: Target, declared: TensorType | None) -> bool:
    return any(_fit(kind, target, declared) for kind in wanted if target.section in LEADS_TO[kind])


def _fit(kind: type[RefType], target: Target, declared: TensorType | None) -> bool:
    if kind is Encoded:
        return target.output is None
    if declared is None or kind in (RawField, Sampled, Parameters, Output) or declared.modality == "unknown":
        return True
    form = modality(declared.modality)
    if kind is Pooled:
        return form.role not in (("tokens", "grid", "index") if target.section == "encoders" else ("raw",))
    if kind is TokenSequence:
        return form.role not in ("vector", "grid", "raw")
    if kind is Grid:
        return form.role == "grid"
    if kind in (Labels, Index):
        return form.discrete or declared.dtype.startswith(("int", "uint", "bool"))
    return form.role != "raw"
