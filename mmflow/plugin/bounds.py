"""The bounds of numbers that declare none of their own: far above what anybody writes, so that no typing error hangs.

A field that says what its numbers may be (`Field(le=...)`) is held to that alone; a field whose numbers may be anything
says why (`any_number`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from mmflow.plugin.references import Annotation, Written

LARGEST: Final = 10**9
"""Of a whole number."""
LARGEST_FLOAT: Final = 1e30

_ANY = "any_number"


def any_number(default: Any = ..., *, because: str, **kwargs: Any) -> Any:
    """A field whose numbers may be of any size; `because` says why no size can hang or break anything."""
    return Field(default, json_schema_extra={_ANY: because}, **kwargs)


def within_bounds(value: Written, field: FieldInfo) -> Written:
    """The value of a field, refused where a number in it is larger than the field, or this module, allows, or is none.

    Fields of a component are finite by its own configuration; this holds models inside its fields to it, too.
    """
    extra = field.json_schema_extra
    if not (isinstance(extra, Mapping) and _ANY in extra) and not bounded_above(field):
        _check(value)
    return value


def bounded_above(field: FieldInfo) -> bool:
    """Whether a field says how large its numbers may be."""
    return _bounds(field.metadata) or _bounded(field.annotation)


def _bounded(annotation: Annotation) -> bool:
    metadata = getattr(annotation, "__metadata__", ())
    if metadata and get_origin(annotation) is not None and _bounds(metadata):
        return True
    return any(_bounded(part) for part in get_args(annotation))


def _bounds(metadata: Any) -> bool:
    for one in metadata:
        if getattr(one, "le", None) is not None or getattr(one, "lt", None) is not None:
            return True
        if isinstance(one, FieldInfo) and _bounds(one.metadata):
            return True
    return False


def _check(value: Written) -> None:
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        most = LARGEST if isinstance(value, int) else LARGEST_FLOAT
        if not isinstance(value, int) and not isfinite(value):
            raise _refused(f"{value} is no finite number", value, "a finite number")
        if abs(value) > most:
            raise _refused(
                f"{str(value)[:40]} is too large a number", value, f"a number between {-most:g} and {most:g}"
            )
    elif isinstance(value, Mapping):
        for one in value.values():
            _check(one)
    elif isinstance(value, list | tuple):
        for one in value:
            _check(one)
    elif isinstance(value, BaseModel) and not hasattr(value, "use"):
        for name, field in type(value).model_fields.items():
            within_bounds(getattr(value, name), field)


def _refused(message: str, found: float, expected: str) -> PydanticCustomError:
    context = {"message": message, "found": f"{found}"[:40], "expected": expected, "hint": ""}
    return PydanticCustomError("component", "{message}", context)
