"""One entry of a spec to its component."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mmflow.plugin import registry as registries
from mmflow.plugin.component import Component, ComponentError, nested_components, with_article
from mmflow.plugin.marks import in_identity, is_secret
from mmflow.plugin.references import Annotation, Written
from mmflow.spec.components.classes import class_at, class_of, field_of, models_in, plain_types
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.translate import component_hint, text_hint, translated
from mmflow.spec.text.document import Node
from mmflow.spec.text.problems import Path, Problem, did_you_mean, nearest, shown

DISTRIBUTION = "mmflow-kit"
M = TypeVar("M", bound=BaseModel)


def find_class(entry: Entry, kind: str, problems: list[Problem]) -> tuple[type[Component] | None, dict[str, Written]]:
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
        problems.append(entry.problem(str(error), at, **component_hint(error)))
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


def validate_component(
    entry: Entry, component: type[Component], fields: Mapping[str, Written], problems: list[Problem]
) -> Component | None:
    """The component of an entry, or None after problems."""
    return validate_model(entry, component, fields, problems)


def validate_model(entry: Entry, model: type[M], fields: Mapping[str, Written], problems: list[Problem]) -> M | None:
    """The fields of an entry as an instance of `model`, or None after problems."""
    if open_secrets := list(_open_secrets(entry, model)):
        # Nothing else is told of these fields, as it might be told with the value.
        problems += open_secrets
        return None
    mistyped = dict(_mistyped(entry, model))
    for path, expected in mistyped.items():
        node = entry.node.at(path)
        found = node.shown() if node is not None else None
        problems.append(entry.problem("", path, found=found, expected=expected, hint=text_hint(node, expected)))
    try:
        made = model.model_validate(fields)
    except ValidationError as error:
        # errors that a wrong value leads to, at its place or further out, are the same mistake
        problems += translated(entry, model, fields, error, list(mistyped))
        return None
    found = [
        *_environment(entry, model, fields),
        *_missing_modules(entry, made),
    ]
    problems += found
    return None if found or mistyped else made


def _mistyped(entry: Entry, model: type[BaseModel], path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Texts where numbers belong and truths where numbers do, and the reverse, with what is expected instead."""
    node = entry.node.at(path)
    for name, child in node.entries().items() if node is not None else ():
        attribute = field_of(model, name)
        if attribute is not None:
            yield from _mistyped_value(entry, model.model_fields[attribute].annotation, child, (*path, name))


def _mistyped_value(entry: Entry, annotation: Annotation, node: Node, path: Path) -> Iterator[tuple[Path, str]]:
    value, plain = node.value, plain_types(annotation)
    if isinstance(value, Mapping):
        inside = class_of(models_in(annotation), node.plain())
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


def _open_secrets(entry: Entry, model: type[BaseModel], path: Path = ()) -> Iterator[Problem]:
    """Secrets that are written in the spec, which everybody may read who may read results."""
    node = entry.node.at(path)
    for name, child in node.entries().items() if node is not None else ():
        attribute, place = field_of(model, name), (*path, name)
        if attribute is None or child.value is None:
            continue
        if is_secret(model, attribute) and not child.env:
            hint = "set a variable of the environment, and write $env.NAME"
            yield entry.problem(f"`{name}` is a secret, and may not be written down", place, hint=hint)
        inside = class_of(models_in(model.model_fields[attribute].annotation), child.plain())
        if inside is not None:
            yield from _open_secrets(entry, inside, place)


def _environment(entry: Entry, model: type[BaseModel], fields: Mapping[str, Written]) -> Iterator[Problem]:
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
