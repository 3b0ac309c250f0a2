"""Marks on the fields of declarations: how a value counts in keys, whether it is a secret, whether it may be one a
row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from mmflow.plugin.component import Component

PER_ROW = "x-mmflow-per-row"


def outside_identity(default: Any = ..., **kwargs: Any) -> Any:
    """A field that cannot change a result (devices, workers, logging): no part of a stage's key."""
    return Field(default, json_schema_extra={"identity": False}, **kwargs)


def secret(default: Any = ..., **kwargs: Any) -> Any:
    """A password or the like (annotate it with `SecretStr`): no part of a key; a spec names it as `$env.NAME` only."""
    return Field(default, json_schema_extra={"identity": False, "secret": True}, **kwargs)


def by_content(default: Any = ..., **kwargs: Any) -> Any:
    """A field that names a file or folder (a path or fsspec URL): a stage's key has its content, not its place."""
    return Field(default, json_schema_extra={"identity": "content"}, **kwargs)


def in_order(default: Any = ..., **kwargs: Any) -> Any:
    """A field with named entries whose order means something: a stage's key holds it."""
    return Field(default, json_schema_extra={"identity": "ordered"}, **kwargs)


def default(raw: Any, *, per_row: bool = False, **kwargs: Any) -> Any:
    """The default of a component field, written as in a spec: `score: Score = default("cosine")`.

    `per_row`: a number that may be one a row: [N] for a column or field (`margin: one.margin`), [K] for a static
    output.
    """
    return Field(raw, **({"json_schema_extra": {PER_ROW: True}} if per_row else {}), **kwargs)


def in_identity(component: type[BaseModel], field: str) -> bool:
    """Whether a field's value can change a result."""
    return _identity_of(component, field) is not False


def known_by_content(component: type[BaseModel], field: str) -> bool:
    """Whether a field names a file whose content stands for it in a key."""
    return _identity_of(component, field) == "content"


def known_by_order(component: type[BaseModel], field: str) -> bool:
    """Whether the order of a field's named entries is part of a key."""
    return _identity_of(component, field) == "ordered"


def is_secret(component: type[BaseModel], field: str) -> bool:
    """Whether a field's value may not stand in a spec."""
    return _extra_of(component, field, "secret") is True


def _identity_of(component: type[BaseModel], field: str) -> object:
    observes = issubclass(component, Component) and component.observes
    return False if observes else _extra_of(component, field, "identity")


def _extra_of(component: type[BaseModel], field: str, name: str) -> object:
    extra = component.model_fields[field].json_schema_extra
    return extra.get(name) if isinstance(extra, Mapping) else None
