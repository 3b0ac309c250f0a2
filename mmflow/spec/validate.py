"""One entry of a spec to its component, and pydantic's errors to problems that name line and fix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mmflow.plugin import registry as registries
from mmflow.plugin.component import Component, ComponentError, in_identity
from mmflow.plugin.kinds import View
from mmflow.plugin.references import Ref
from mmflow.spec.document import Node
from mmflow.spec.problems import Path, Problem, did_you_mean, nearest, shown, with_article

DISTRIBUTION = "mmflow-kit"

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
_LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most", "multiple_of": "a multiple of"}


@dataclass(frozen=True)
class Entry:
    """A named part of a spec: where it stands, what is written there, and its component once that is valid."""

    section: str
    name: str
    path: Path
    node: Node
    component: Component | View | None = None

    @property
    def owner(self) -> str:
        return f"{self.section}.{self.name}"

    def problem(self, message: str, path: Path = (), *, key: bool = False, **parts: Any) -> Problem:
        return self.node.problem(message, self.path, path, key=key, **parts)


def find_class(entry: Entry, kind: str, problems: list[Problem]) -> tuple[type[Component] | None, dict[str, Any]]:
    """The class that an entry uses and its raw fields without `use`; None after a problem.

    With `kind` empty the name says it (`score/maxsim`), or is that of one kind only.
    """
    node = entry.node
    if isinstance(node.value, str):
        use, fields, at = node.value, {}, ()
    elif not isinstance(node.value, Mapping):
        expected = f"{{use: NAME, ...}} with the name of {with_article(kind or 'component')}"
        problems.append(entry.problem("", found=node.shown(), expected=expected))
        return None, {}
    else:
        fields = node.plain()
        if "use" not in fields:
            said = nearest(next(iter(fields), ""), ["use"])
            hint = "did you mean use?" if said else "begin with {use: NAME, ...}; `mmflow list` shows the names"
            problems.append(entry.problem(f"{kind or 'component'} without `use`", hint=hint))
            return None, {}
        use, at = fields.pop("use"), ("use",)
    if not isinstance(use, str):
        problems.append(
            entry.problem("", at, found=shown(use), expected=f"the name of {with_article(kind or 'component')}")
        )
        return None, {}
    registry = registries.registry()
    try:
        return registry.get(kind or _kind_of(use), use), fields
    except ComponentError as error:
        problems.append(entry.problem(str(error), at, **_component_hint(error)))
        return None, fields


def _kind_of(use: str) -> str:
    kind, slash, _ = use.partition("/")
    if slash:
        return kind
    name = use.partition("@")[0]
    registry = registries.registry()
    kinds = [kind for kind in registry.kinds() if name in registry.names(kind)]
    if len(kinds) == 1:
        return kinds[0]
    if not kinds:
        near = did_you_mean(name, [r.name for r in registry.registrations()], most=0)
        raise ComponentError(f"unknown component {use!r}", hint=near or "write its kind, such as score/cosine")
    raise ComponentError(
        f"{use!r} is the name of a {' and of a '.join(kinds)}", hint=f"write {kinds[0]}/{name} to say which"
    )


def _component_hint(error: ComponentError) -> dict[str, Any]:
    if error.hint:
        return {"hint": error.hint}
    long = len(error.expected) > 200
    return {"hint": "`mmflow list` shows what is installed"} if long else {"expected": error.expected or None}


def validate_component(
    entry: Entry, component: type[Component], fields: Mapping[str, Any], problems: list[Problem]
) -> Component | None:
    """The component of an entry, or None after problems."""
    found = _validate(entry, component, fields, problems)
    assert found is None or isinstance(found, Component)
    return found


def validate_view(entry: Entry, problems: list[Problem]) -> View | None:
    if not isinstance(entry.node.value, Mapping):
        expected = "a mapping such as {of: image, apply: [...]}"
        problems.append(entry.problem("", found=entry.node.shown(), expected=expected))
        return None
    found = _validate(entry, View, entry.node.plain(), problems)
    assert found is None or isinstance(found, View)
    return found


def _validate(
    entry: Entry, model: type[BaseModel], fields: Mapping[str, Any], problems: list[Problem]
) -> BaseModel | None:
    mistyped = dict(_mistyped(entry, model))
    for path, expected in mistyped.items():
        node = entry.node.at(path)
        found = node.shown() if node is not None else None
        problems.append(entry.problem("", path, found=found, expected=expected, hint=_text_hint(node, expected)))
    try:
        made = model.model_validate(fields)
    except ValidationError as error:
        # what a wrong value leads to, at its place or further out, is the same mistake
        problems += _translated(entry, model, fields, error, list(mistyped))
        return None
    found = [
        *_environment(entry, model, fields),
        *_missing_modules(entry, made),
    ]
    problems += found
    return None if found or mistyped else made


# ---- pydantic's errors


@dataclass(frozen=True)
class _Error:
    """One of pydantic's errors: the path that exists in the spec, and the names of union members cut from it."""

    type: str
    path: Path
    tags: tuple[str, ...]
    point: int
    context: Mapping[str, Any]
    message: str
    expected: str | None


def _translated(
    entry: Entry, model: type[BaseModel], fields: Mapping[str, Any], error: ValidationError, known: Sequence[Path]
) -> Iterator[Problem]:
    errors = [_read(raw, fields) for raw in error.errors(include_url=False, include_input=False)]
    errors = [e for e in errors if not any(path[: len(e.path)] == e.path for path in known) or e.type in _OWN]
    for chosen in _one_per_mistake(errors):
        yield _problem(entry, model, fields, chosen)


def _read(raw: Any, fields: Mapping[str, Any]) -> _Error:
    path: list[str | int] = []
    tags: list[str] = []
    point = -1
    value: Any = fields
    for part in raw["loc"]:
        mapping = isinstance(value, Mapping) and part in value
        listed = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if mapping or listed:
            path.append(part)
            value = value[part]
        elif raw["type"] == "missing" and part == raw["loc"][-1]:
            path.append(part)
        elif isinstance(part, str):
            tags.append(part)
            point = len(path) if point < 0 else point
    context = raw.get("ctx", {})
    return _Error(raw["type"], tuple(path), tuple(tags), point, context, raw["msg"], _expected(raw["type"], context))


def _expected(kind: str, context: Mapping[str, Any]) -> str | None:
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
            len(e.path) > len(error.path) for e in errors if e.path[: len(error.path)] == error.path
        ):
            continue  # entries that are refused themselves are not counted
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


def _problem(entry: Entry, model: type[BaseModel], fields: Mapping[str, Any], error: _Error) -> Problem:
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
            parts = _component_hint(ComponentError("", expected=context["expected"], hint=context["hint"]))
            return entry.problem(message, place, **parts)
        found = node.shown() if node is not None else context["found"]
        return entry.problem(message, path, found=found, expected=context["expected"], hint=context["hint"] or None)
    if error.expected is None:
        return entry.problem(error.message[:1].lower() + error.message[1:], path)
    found = node.shown() if node is not None else None
    if "[key]" in error.tags and path:
        return entry.problem("", path, key=True, found=shown(str(path[-1])), expected=error.expected)
    return entry.problem("", path, found=found, expected=error.expected, hint=_text_hint(node, error.expected))


def _text_hint(node: Node | None, expected: str) -> str | None:
    """The mend of a value that was meant as it stands, but reads as something else."""
    if node is None or not isinstance(node.value, str):
        return None
    text = node.value.strip()
    if "true or false" in expected and text.casefold() in ("yes", "on", "y", "no", "off", "n"):
        return f"write {'true' if text.casefold() in ('yes', 'on', 'y') else 'false'}"
    if "number" in expected:
        from mmflow.spec.yaml_reader import core_scalar

        plain = text.replace("_", "").replace(",", "").removesuffix("%")
        try:
            value = core_scalar(plain)
        except ValueError:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"write {plain}" if plain != text else f"write {plain} without quotes"
    return None


def _label(entry: Entry, model: type[BaseModel], fields: Mapping[str, Any], path: Path) -> str:
    inside, reached = class_at(model, fields, path)
    if inside is None:
        return str(path[-1]) if path else entry.section.removesuffix("s")
    if issubclass(inside, Component):
        return f"{inside.kind} {inside.use}"
    return str(path[reached - 1]) if reached and reached <= len(path) else entry.section.removesuffix("s")


# ---- classes at paths


def field_names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def field_of(model: type[BaseModel], name: str | int) -> str | None:
    """The attribute behind a written field name."""
    for attribute, field in model.model_fields.items():
        if name in (attribute, field.alias):
            return attribute
    return None


@cache
def models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The kinds and other models inside an annotation, through lists, mappings and unions."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return (annotation,) if issubclass(annotation, BaseModel) else ()
    return tuple(model for part in get_args(annotation) for model in models_in(part))


def class_at(model: type[BaseModel], raw: Any, path: Path) -> tuple[type[BaseModel] | None, int]:
    """The class of the mapping at a path, and how many parts of the path lead to it; None where it is unknown."""
    current: type[BaseModel] | None = model
    inside: tuple[type[BaseModel], ...] = ()
    value, reached = raw, 0
    for index, part in enumerate(path):
        if current is not None:
            attribute = field_of(current, part)
            inside = models_in(current.model_fields[attribute].annotation) if attribute else ()
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None, reached
        current = _class_of(inside, value)
        reached = index + 1 if current is not None else reached
    return current, reached


def _class_of(models: tuple[type[BaseModel], ...], value: Any) -> type[BaseModel] | None:
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


# ---- what pydantic lets pass


def _mistyped(entry: Entry, model: type[BaseModel], path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Texts where numbers belong and truths where numbers do, and the reverse, with what is expected instead."""
    node = entry.node.at(path)
    for name, child in node.entries().items() if node is not None else ():
        attribute = field_of(model, name)
        if attribute is not None:
            yield from _mistyped_value(entry, model.model_fields[attribute].annotation, child, (*path, name))


def _mistyped_value(entry: Entry, annotation: Any, node: Node, path: Path) -> Iterator[tuple[Path, str]]:
    value, plain = node.value, plain_types(annotation)
    if isinstance(value, Mapping):
        inside = _class_of(models_in(annotation), node.plain())
        if inside is not None:
            yield from _mistyped(entry, inside, path)
        elif not models_in(annotation):
            for name, child in value.items():
                yield from _mistyped_value(entry, annotation, child, (*path, name))
    elif isinstance(value, tuple):
        for index, child in enumerate(value):
            yield from _mistyped_value(entry, annotation, child, (*path, index))
    elif plain and plain <= {bool, int, float} and not node.env and value is not None:
        numbers = "a number" if float in plain else "a whole number"
        if isinstance(value, str) or (isinstance(value, bool) and bool not in plain):
            words = [numbers] if plain - {bool} else []
            yield path, " or ".join([*words, *(["true or false"] if bool in plain else [])])
        elif not isinstance(value, bool) and plain == {bool}:
            yield path, "true or false"


@cache
def plain_types(annotation: Any) -> frozenset[type]:
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


def _environment(entry: Entry, model: type[BaseModel], fields: Mapping[str, Any]) -> Iterator[Problem]:
    """The environment may be read only by fields that cannot change a result, as it is not part of any key."""
    for path, node in entry.node.environment():
        for end in range(len(path)):
            inside, _ = class_at(model, fields, path[:end])
            attribute = field_of(inside, path[end]) if inside is not None else None
            if inside is not None and attribute is not None and not in_identity(inside, attribute):
                break
        else:
            inside, _ = class_at(model, fields, path[:-1])
            free = [name for name in inside.model_fields if not in_identity(inside, name)] if inside is not None else []
            names = " and ".join(f"$env.{name}" for name in sorted(node.env))
            allowed = f"only {', '.join(free)} may read the environment here" if free else None
            yield entry.problem(
                f"{names} in a field that can change a result",
                path,
                hint=f"write the value, or use $vars and --set{f'; {allowed}' if allowed else ''}",
            )


def _missing_modules(entry: Entry, made: BaseModel) -> Iterator[Problem]:
    for path, component in nested_components(made):
        absent = type(component).missing_modules()
        if absent:
            extra = type(component).extra
            if extra and registries.registry().find(component.kind, component.use).distribution == DISTRIBUTION:
                hint = f"pip install '{DISTRIBUTION}[{extra}]'"
            else:
                hint = f"install {', '.join(absent)}"
            message = f"{component.kind} {component.use} needs {', '.join(absent)}, which is not installed"
            yield entry.problem(message, path, hint=hint)


def nested_components(made: Any, path: Path = ()) -> Iterator[tuple[Path, Component]]:
    """A component and all components inside its fields, with their paths."""
    if isinstance(made, Component):
        yield path, made
    if isinstance(made, BaseModel):
        for name, field in type(made).model_fields.items():
            yield from nested_components(getattr(made, name), (*path, field.alias or name))
    elif isinstance(made, Mapping):
        for name, value in made.items():
            yield from nested_components(value, (*path, name))
    elif isinstance(made, list | tuple):
        for index, value in enumerate(made):
            yield from nested_components(value, (*path, index))
