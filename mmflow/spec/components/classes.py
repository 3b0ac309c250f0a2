"""Which declared class stands behind each mapping of a spec, and what its fields may hold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal, get_args, get_origin

from pydantic import BaseModel

from mmflow.plugin import registry as registries
from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.references import Annotation, Ref, Written
from mmflow.spec.text.problems import Path

VALUES = ("Column", "Static")
"""Types of outputs of stages that are values: one an id, or rows of an axis of their own."""


def field_names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def field_of(model: type[BaseModel], name: str | int) -> str | None:
    """The attribute behind a written field name."""
    for attribute, field in model.model_fields.items():
        if name in (attribute, field.alias):
            return attribute
    return None


@cache
def models_in(annotation: Annotation) -> tuple[type[BaseModel], ...]:
    """The kinds and other models inside an annotation, through lists, mappings and unions."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return (annotation,) if issubclass(annotation, BaseModel) else ()
    return tuple(model for part in get_args(annotation) for model in models_in(part))


def class_at(model: type[BaseModel], raw: Written, path: Path) -> tuple[type[BaseModel] | None, int]:
    """The class of the mapping at a path, and how many parts of the path lead to it; None where it is unknown."""
    current: type[BaseModel] | None = model
    inside: tuple[type[BaseModel], ...] = ()
    value, reached = raw, 0
    for index, part in enumerate(path):
        if current is not None:
            attribute = field_of(current, part)
            # A name that is no field is that of an entry: what looked like the model is a mapping of them.
            inside = models_in(current.model_fields[attribute].annotation) if attribute else inside
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None, reached
        current = class_of(inside, value)
        reached = index + 1 if current is not None else reached
    return current, reached


def class_of(models: tuple[type[BaseModel], ...], value: Written) -> type[BaseModel] | None:
    if isinstance(value, str):
        value = {"use": value}
    if not isinstance(value, Mapping):
        return None
    use = value.get("use")
    for model in models:
        if issubclass(model, Component):
            if isinstance(use, str):
                try:
                    return registries.registry().get(model.kind, use)
                except ComponentError:
                    continue
        elif use is None:
            return model
    return None


@cache
def plain_types(annotation: Annotation) -> frozenset[type]:
    """The types that a scalar may have under an annotation: bool, int, float, or others."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        mapping = issubclass(annotation, BaseModel) and not issubclass(annotation, Component)
        return frozenset() if annotation is type(None) or mapping else frozenset({annotation})
    origin = get_origin(annotation)
    if origin is None or origin is Literal or origin is Ref:
        return frozenset({object})
    arguments = get_args(annotation)
    if origin is Annotated:
        arguments = arguments[:1]
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        arguments = arguments[1:]
    return frozenset(kind for part in arguments if part is not Ellipsis for kind in plain_types(part))
