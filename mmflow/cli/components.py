"""Descriptions of components for `list` and `show`, read from their declarations."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mmflow.plugin.component import Component, ComponentError, Shared
from mmflow.plugin.kinds import Evaluator
from mmflow.plugin.marks import in_identity
from mmflow.plugin.numbers import Bounds
from mmflow.plugin.references import Annotation, Ref, Written, expected_of
from mmflow.plugin.registry import BrokenPlugin, Registration, registry

_WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "anything", type(None): "null"}


@dataclass(frozen=True)
class FieldDescription:
    """One field of a component, in words."""

    name: str
    type: str
    default: str | None
    """As it would be written in a spec; None where the field must be given."""
    bounds: str
    description: str
    in_identity: bool


@dataclass(frozen=True)
class Description:
    """All that `show` tells; `error` says why a component cannot be imported."""

    kind: str
    name: str
    distribution: str
    version: str
    path: str
    error: str = ""
    source: str = ""
    doc: str = ""
    fields: tuple[FieldDescription, ...] = ()
    example: str = ""
    requires: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: str = ""


def registrations(kind: str | None = None) -> list[Registration]:
    """Every registered name (of one kind; an `evaluator` is a stage that measures), sorted.

    Raises `ComponentError` for an unknown kind.
    """
    found = registry()
    if kind == "evaluator":
        return [r for r in found.registrations() if r.kind == "stage" and _measures(r)]
    if kind is not None and kind not in found.kinds():
        raise ComponentError(f"unknown kind {kind!r}", expected=f"one of: {', '.join(found.kinds())}")
    return [r for r in found.registrations() if kind in (None, r.kind)]


def _measures(registration: Registration) -> bool:
    """Whether a stage is an evaluator; False for one that cannot be imported."""
    use = f"{registration.name}@{registration.distribution}" if registration.distribution else registration.name
    try:
        return issubclass(registry().get("stage", use), Evaluator)
    except Exception:  # plugins may raise anything
        return False


def matching(name: str) -> tuple[list[Registration], list[BrokenPlugin]]:
    """The components that NAME of `show` stands for (`[kind/]name[@distribution]`), and broken plugins of that name."""
    found = registry()
    kind, _, rest = name.rpartition("/")
    use, _, distribution = rest.partition("@")
    hits = [
        r
        for r in found.registrations()
        if r.name == use and kind in ("", r.kind) and distribution in ("", r.distribution)
    ]
    broken = [b for b in found.broken if name in (b.distribution, b.entry_point)]
    if hits or broken:
        return hits, broken
    known = {r.name for r in found.registrations()}
    close = difflib.get_close_matches(use, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}?" if close else "`mmflow list` shows all names"
    if found.broken:
        hint += f" (broken plugins: {', '.join(b.distribution or b.entry_point for b in found.broken)})"
    raise ComponentError(f"no component is named {name!r}", found=name, hint=hint)


def describe(registration: Registration) -> Description:
    """Everything that is known of a component; imports its declaration, and says why where that fails."""
    about = Description(
        registration.kind, registration.name, registration.distribution, registration.version, registration.path
    )
    use = f"{registration.name}@{registration.distribution}" if registration.distribution else registration.name
    try:
        component = registry().get(registration.kind, use)
        component.model_rebuild()
    except Exception as error:
        return replace(about, error=str(error))
    return replace(
        about,
        source=_source_place(component),
        doc=inspect.cleandoc(component.__doc__ or ""),
        fields=describe_fields(component),
        example=component.example,
        requires=component.requires,
        missing=component.missing_modules(),
        extra=component.extra,
    )


def render(about: Description) -> Iterator[str]:
    """The lines that `mmflow show` prints."""
    yield f"{about.kind}/{about.name}"
    yield f"  distribution  {about.distribution} {about.version}"
    yield f"  class         {about.path}"
    if about.error:
        yield f"  broken        {about.error}"
        return
    yield f"  source        {about.source}"
    if about.requires:
        state = f"missing here: {', '.join(about.missing)}" if about.missing else "all here"
        yield f"  requires      {', '.join(about.requires)} ({state})"
    if about.extra:
        yield f"  extra         pip install '{about.distribution}[{about.extra}]'"
    if about.doc:
        yield ""
        yield from (f"  {line}".rstrip() for line in about.doc.splitlines())
    yield ""
    yield "  fields" if about.fields else "  no fields"
    yield from field_lines(about.fields)
    if about.example:
        yield ""
        yield "  example"
        yield from (f"    {line}" for line in about.example.splitlines())


def field_lines(fields: Sequence[FieldDescription]) -> Iterator[str]:
    """Lines about fields, one under the other."""
    width = max((len(f.name) for f in fields), default=0)
    for field in fields:
        default = "required" if field.default is None else f"default {field.default}"
        facts = [field.type, field.bounds, default, "" if field.in_identity else "no part of the key"]
        yield f"    {field.name:<{width}}  {', '.join(fact for fact in facts if fact)}"
        if field.description:
            yield f"    {'':<{width}}  {field.description}"


def describe_fields(component: type[Component]) -> tuple[FieldDescription, ...]:
    """The fields of a declaration, in words."""
    return tuple(_describe_field(component, name, field) for name, field in component.model_fields.items())


def source_of(registration: Registration) -> str:
    """The code of a component's class, with its file and line above; raises `ComponentError` where there is none."""
    use = f"{registration.name}@{registration.distribution}" if registration.distribution else registration.name
    component = registry().get(registration.kind, use)
    try:
        return f"# {_source_place(component)}\n{inspect.getsource(component).rstrip()}"
    except (OSError, TypeError):
        raise ComponentError(f"the code of {registration.path} is not at hand") from None


def _source_place(component: type[Component]) -> str:
    try:
        file = inspect.getsourcefile(component)
        return f"{file}:{inspect.getsourcelines(component)[1]}"
    except (OSError, TypeError):
        return "unknown"


def _describe_field(component: type[Component], name: str, field: FieldInfo) -> FieldDescription:
    return FieldDescription(
        name=field.alias or name,
        type=type_in_words(field.annotation),
        default=None if field.is_required() else _written(field.get_default(call_default_factory=True)),
        bounds=_bounds(field.metadata),
        description=" ".join((field.description or "").split()),
        in_identity=in_identity(component, name),
    )


def type_in_words(annotation: Annotation) -> str:
    """A field's type as a user would say it: `number`, `list of reference to an encoder`, `one of: a, b`."""
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        bounds = _bounds(arguments[1:])
        return f"{type_in_words(arguments[0])} {bounds}".strip()
    if isinstance(origin, type) and issubclass(origin, Ref):
        return f"reference to {expected_of(arguments[0])}"
    if origin is Literal:
        return "one of: " + ", ".join(_written(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_in_words(a) for a in arguments))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping of {type_in_words(arguments[1])}"
    if origin in (tuple, list):
        inner = [a for a in arguments if a is not Ellipsis]
        if origin is tuple and len(inner) == len(arguments):
            return f"[{', '.join(type_in_words(a) for a in inner)}]"
        return f"list of {type_in_words(inner[0])}" if inner else "list"
    if isinstance(annotation, type):
        if issubclass(annotation, Component):
            return "a number, or a value (schedule, learned)" if annotation.kind == "value" else annotation.kind
        if issubclass(annotation, BaseModel):
            inside = (f"{f.alias or n}: {type_in_words(f.annotation)}" for n, f in annotation.model_fields.items())
            return "{" + ", ".join(inside) + "}"
        return annotation.__name__
    return str(annotation)


def _bounds(metadata: Any) -> str:
    words: list[str] = []
    for mark in metadata:
        if isinstance(mark, Bounds):
            words.append(mark.says().removeprefix("a number "))
        elif isinstance(mark, FieldInfo):
            words.append(_bounds(mark.metadata))
        else:
            limits = (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
            words += [f"{word} {limit:g}" for name, word in limits if (limit := getattr(mark, name, None)) is not None]
    return " and ".join(word for word in words if word)


def _written(value: Written) -> str:
    """A default as it would be written in a spec."""
    if isinstance(value, Shared):
        return value.path
    if isinstance(value, Component):
        declared = value.declared()
        return str(declared["use"]) if isinstance(declared, dict) and list(declared) == ["use"] else _written(declared)
    if isinstance(value, BaseModel):
        return _written(value.model_dump(mode="json", exclude_defaults=True))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_written(v) for v in value) + "]"
    return str(value)
