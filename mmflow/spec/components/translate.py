"""Pydantic's errors as problems: one a mistake, at the place in the file, in words of the language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.references import Written
from mmflow.spec.components.classes import class_at, field_names
from mmflow.spec.components.entry import Entry
from mmflow.spec.text.document import Node
from mmflow.spec.text.problems import Parts, Path, Problem, did_you_mean, shown
from mmflow.spec.text.scalars import core_scalar

_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping",
    "none": "null",
    "finite_number": "a finite number",
}
_OWN = ("missing", "extra_forbidden")
_ABSENT: Written = object()
_LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most", "multiple_of": "a multiple of"}


@dataclass(frozen=True)
class _Error:
    """One of pydantic's errors: the path that exists in the spec, and the names of union members cut from it."""

    type: str
    path: Path
    tags: tuple[str, ...]
    point: int
    context: Mapping[str, Written]
    message: str
    expected: str | None


def translated(
    entry: Entry, model: type[BaseModel], fields: Mapping[str, Written], error: ValidationError, known: Sequence[Path]
) -> Iterator[Problem]:
    errors = [_read(raw, fields) for raw in error.errors(include_url=False, include_input=False)]
    errors = [e for e in errors if not any(path[: len(e.path)] == e.path for path in known) or e.type in _OWN]
    for chosen in _one_per_mistake(errors):
        yield _problem(entry, model, fields, chosen)


def _read(raw: ErrorDetails, fields: Mapping[str, Written]) -> _Error:
    path: list[str | int] = []
    tags: list[str] = []
    point = -1
    value: Written = fields
    for part in raw["loc"]:
        inner = _ABSENT
        if isinstance(value, Mapping):
            inner = value.get(part, _ABSENT)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            inner = value[part]
        if inner is not _ABSENT:
            path.append(part)
            value = inner
        elif raw["type"] == "missing" and part == raw["loc"][-1]:
            path.append(part)
        elif isinstance(part, str):
            tags.append(part)
            point = len(path) if point < 0 else point
    context = raw.get("ctx", {})
    return _Error(raw["type"], tuple(path), tuple(tags), point, context, raw["msg"], _expected(raw["type"], context))


def _expected(kind: str, context: Mapping[str, Written]) -> str | None:
    if kind in ("literal_error", "enum"):
        return f"one of {context['expected']}".replace("'", "").replace(" or ", ", ")
    limits = [
        f"{words} {context[name]:g}" for name, words in _LIMITS.items() if isinstance(context.get(name), int | float)
    ]
    if limits:
        return f"a number {' and '.join(limits)}"
    if kind in ("too_short", "too_long", "string_too_short", "string_too_long"):
        bound, words = (("min_length", "at least"), ("max_length", "at most"))[kind.endswith("long")]
        return f"{words} {context.get(bound)} {'characters' if kind.startswith('string') else 'entries'}"
    if kind == "string_pattern_mismatch":
        return f"text of the form {context.get('pattern')}"
    if kind == "int_from_float":
        return "a whole number"
    for name, words in _WORDS.items():
        if kind.startswith((f"{name}_", name + "s_")) or kind == name:
            return words
    return context.get("expected") or None


def _one_per_mistake(errors: Sequence[_Error]) -> list[_Error]:
    """Each mistake once: a union tells of every member that does not fit, and a mapping of the one it was meant for."""
    chosen: list[_Error] = []
    unions: dict[Path, list[_Error]] = {}
    for error in errors:
        if error.type == "too_short" and any(
            len(e.path) > len(error.path) or (e.type == "reference" and e.point == error.point)
            for e in errors
            if e.path[: len(error.path)] == error.path
        ):
            continue  # entries that are refused themselves are not counted, nor is one that stands for a list
        if error.point < 0:
            chosen.append(error)
        else:
            unions.setdefault(error.path[: error.point], []).append(error)
    for point, group in unions.items():
        deeper = [e for e in group if len(e.path) > len(point) or e.type in _OWN]
        if deeper:
            first = deeper[0].tags[0]
            chosen += [e for e in deeper if e.tags[0] == first]
        elif len(group) == 1:
            chosen += group
        else:
            said = list(dict.fromkeys(e.expected for e in group if e.expected))
            chosen.append(replace(group[0], type="union", expected=" or ".join(said) or None))
    return chosen


def _problem(entry: Entry, model: type[BaseModel], fields: Mapping[str, Written], error: _Error) -> Problem:
    path, context = error.path, error.context
    label = _label(entry, model, fields, path[:-1])
    if error.type == "extra_forbidden":
        inside, _ = class_at(model, fields, path[:-1])
        names = field_names(inside) if inside is not None else []
        hint = did_you_mean(str(path[-1]), names, otherwise="leave it out", most=20)
        return entry.problem(f"{label} has no field {shown(str(path[-1]))}", path, key=True, hint=hint)
    if error.type == "missing" and isinstance(path[-1], int):
        node = entry.node.at(path[:-1])
        found = node.shown() if node is not None else None
        return entry.problem("", path[:-1], found=found, expected=f"{path[-1] + 1} entries or more")
    if error.type == "missing":
        inside, _ = class_at(model, fields, path[:-1])
        field = inside.model_fields.get(str(path[-1])) if inside is not None else None
        hint = f"`{path[-1]}` is {field.description}" if field is not None and field.description else None
        return entry.problem(f"{label} needs `{path[-1]}`", path[:-1], hint=hint or f"write {path[-1]}: ...")
    node = entry.node.at(path)
    if error.type in ("value_error", "assertion_error"):
        where = _label(entry, model, fields, path)
        return entry.problem(f"{where}: {error.message.partition(', ')[2]}", path)
    if "message" in context and "hint" in context:
        raw = node.plain() if node is not None else None
        place = (*path, "use") if isinstance(raw, Mapping) and "use" in raw else path
        message = str(context["message"])
        if message.startswith("unknown ") or not context["expected"]:
            parts = component_hint(ComponentError("", expected=context["expected"], hint=context["hint"]))
            return entry.problem(message, place, **parts)
        found = node.shown() if node is not None else context["found"]
        return entry.problem(message, path, found=found, expected=context["expected"], hint=context["hint"] or None)
    if error.expected is None:
        return entry.problem(error.message[:1].lower() + error.message[1:], path)
    found = node.shown() if node is not None else None
    if "[key]" in error.tags and path:
        return entry.problem("", path, key=True, found=shown(str(path[-1])), expected=error.expected)
    return entry.problem("", path, found=found, expected=error.expected, hint=text_hint(node, error.expected))


def text_hint(node: Node | None, expected: str) -> str | None:
    """The fix of a value that was meant as it stands, but reads as something else."""
    if node is None or not isinstance(node.value, str):
        return None
    text = node.value.strip()
    if "true or false" in expected and text.casefold() in ("yes", "on", "y", "no", "off", "n"):
        return f"write {'true' if text.casefold() in ('yes', 'on', 'y') else 'false'}"
    if "number" in expected:
        plain = text.replace("_", "").replace(",", "").removesuffix("%")
        try:
            value = core_scalar(plain)
        except ValueError:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"write {plain}" if plain != text else f"write {plain} without quotes"
    return None


def _label(entry: Entry, model: type[BaseModel], fields: Mapping[str, Written], path: Path) -> str:
    inside, reached = class_at(model, fields, path)
    if inside is None:
        return str(path[-1]) if path else entry.section.removesuffix("s")
    if issubclass(inside, Component):
        return f"{inside.kind} {inside.use}"
    if not reached or reached > len(path):
        return entry.section.removesuffix("s")
    # An entry of a list has no name but its place.
    begin = reached - 2 if reached > 1 and isinstance(path[reached - 1], int) else reached - 1
    return ".".join(str(part) for part in path[begin:reached])


def component_hint(error: ComponentError) -> Parts:
    if error.hint:
        return {"hint": error.hint}
    long = len(error.expected) > 200
    return {"hint": "`mmflow list` shows what is installed"} if long else {"expected": error.expected or None}
