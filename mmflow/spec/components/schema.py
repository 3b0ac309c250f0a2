"""The JSON Schema of the whole language with every installed component, for editors.

A component is chosen by an if/then chain on `use`, so that an error is told at the very field, and not as "matches
none of the alternatives". References are checked by form only; `mmflow check` knows where they lead. A file with
`extends` is an overlay: its entries may be partial and its values null, so that every definition is there twice.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from mmflow.plugin import registry as registries
from mmflow.plugin.component import DOTTED, Component, ComponentError, first_sentence
from mmflow.plugin.kinds import View
from mmflow.plugin.references import NAME, Data, Written, reference_fields
from mmflow.spec.components.classes import field_of
from mmflow.spec.components.named import KINDS
from mmflow.spec.components.sections import Report
from mmflow.spec.components.stages import OVERRIDES

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VARIABLE: Final = {"type": "string", "pattern": r"^\$\{?(vars|env)\."}
NULL_OR_VARIABLE: Final = {"if": {"type": "string"}, "then": VARIABLE, "else": {"type": "null"}}
PARTIAL = "overlay."
"""Before the names of the definitions for overlays."""
ENTRY_NAME = "^[A-Za-z_][A-Za-z0-9_-]*$"

_VERBATIM: Final = ("default", "examples", "const", "enum", "enumDescriptions")
SECTIONS: Final = {
    "data": "sources",
    "encoders": "nodes with inputs and outputs: towers, heads, fusions, decoders",
    "memories": "states that live between steps, such as a queue",
    "losses": "values to minimize: their sum, each times its weight",
    "track": "trackers that follow a run, named or in a list",
}

Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema as plain data. A component that cannot be imported is known by name only."""
    registry = registries.registry()
    definitions: dict[str, Schema] = {"variable": dict(VARIABLE)}
    chosen: list[tuple[str, str]] = []
    about: dict[str, str] = {}
    patterns: list[str] = []
    for kind in registry.kinds():
        names = registry.names(kind)
        made = {name: found for name in names if (found := _component(kind, name, definitions)) is not None}
        said = {name: first_sentence(made[name].__doc__) if name in made else "" for name in names}
        described = [(kind, name) for name in made]
        definitions[f"{kind}.names"] = _names(said)
        definitions[kind] = _chain(kind, [_pattern(kind, names)], described, numbers=kind == "value")
        chosen += described
        about |= said
        patterns.append(_pattern(kind, names))
    for kind in sorted({opened.kind for opened in Component.__subclasses__()} - set(definitions)):
        definitions[f"{kind}.names"] = _names({})
        definitions[kind] = _chain(kind, [], [])
    definitions["part.names"] = _names(dict(sorted(about.items())))
    definitions["part"] = _chain("part", patterns, chosen)
    definitions["view"] = _model(View, "view", definitions)
    sections: dict[str, Schema] = {
        "mmflow": {"const": 1, "description": "version of the language"},
        "name": {"type": "string", "description": "of the run; the file's name where it is left out"},
        "seed": {"description": "of weights, order, views and dropout", **_open({"type": "integer", "minimum": 0})},
        "vars": {"type": ["object", "null"], "description": "values for $vars.NAME"},
        "extends": {
            "description": "one file or several that this one is merged over: mappings deeply, null removes",
            "type": ["string", "array"],
            "items": {"type": "string"},
        },
        "matrix": {"type": ["object", "null"], "description": "other values for one text: several specs, its members"},
        "report": _open(_model(Report, "report", definitions)),
        "views": _entries({"$ref": "#/$defs/view"}, "fields as encoders see them: transforms, drawn together"),
        "parts": _entries({"$ref": "#/$defs/part"}, "components that are used only through others, by path"),
        "train": _open({"$ref": "#/$defs/stage.train"} if "stage.train" in definitions else {"type": "object"}),
        "stages": _entries({"$ref": "#/$defs/stage"}, "any stages, by name"),
        "eval": _entries({"$ref": "#/$defs/stage"}, "evaluations, which come after the training"),
    }
    sections |= {
        name: _entries({"$ref": f"#/$defs/{kind}"}, SECTIONS.get(name, "")) for name, kind in KINDS.items() if kind
    }
    trackers = {"type": "array", "items": _open({"$ref": "#/$defs/tracker"})}
    sections["track"] = {"if": {"type": "array"}, "then": trackers, "else": sections["track"]}
    overlay = {name: _partial(schema) for name, schema in sections.items()}
    definitions |= {PARTIAL + name: _partial(schema) for name, schema in definitions.items()}
    definitions[PARTIAL + "variable"] = dict(NULL_OR_VARIABLE)
    return {
        "$schema": DIALECT,
        "title": "mmflow spec",
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"properties": overlay, "additionalProperties": False},
        "else": {"properties": sections, "additionalProperties": False},
        "$defs": definitions,
    }


def _entries(schema: Schema, description: str) -> Schema:
    entries = {"propertyNames": {"pattern": ENTRY_NAME}, "additionalProperties": _open(schema)}
    return {"description": description, "type": ["object", "null"], **entries}


def _open(schema: Schema) -> Schema:
    """The schema, or a variable in its place.

    The alternatives at the end are what editors offer: they do not look behind a condition. `{}` holds for any value.
    """
    kind = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if kind and kind in registries.registry().kinds():
        offered: Schema = {"$ref": f"#/$defs/{kind}.names"}
    else:
        offered = {key: schema[key] for key in ("enum",) if key in schema}
        offered |= {"type": "boolean"} if schema.get("type") == "boolean" else {}
    shown: Schema = {"anyOf": [offered, {}]} if offered else {}
    return {"if": {"$ref": "#/$defs/variable"}, "else": schema, **shown}


def _names(about: Mapping[str, str]) -> Schema:
    """Names of components, with a sentence about each."""
    return {"enum": list(about), "enumDescriptions": list(about.values())}


def _pattern(kind: str, name: str | Sequence[str]) -> str:
    """A name, or one of several, in its forms: alone, with its kind, with a distribution."""
    names = (name,) if isinstance(name, str) else name
    return f"^({kind}/)?({'|'.join(map(re.escape, names))})(@.+)?$"


def _chain(
    kind: str, patterns: Sequence[str], described: Sequence[tuple[str, str]], *, numbers: bool = False
) -> Schema:
    """A mapping with `use`, a bare name, or a dotted path to another component, each with the named one's text."""
    use: Schema = {"anyOf": [{"$ref": f"#/$defs/{kind}.names"}, *({"type": "string", "pattern": p} for p in patterns)]}
    named = [*use["anyOf"], {"type": "string", "pattern": f"^{DOTTED.pattern}$"}, *([{"type": "number"}] * numbers)]
    mappings = [
        {"if": {"properties": {"use": {"pattern": _pattern(*one)}}, "required": ["use"]}, "then": _reference_to(*one)}
        for one in described
    ]
    texts = [
        {"if": {"type": "string", "pattern": _pattern(*one)}, "then": _reference_to(*one, "/properties/use")}
        for one in described
    ]
    return {
        "if": {"type": "object"},
        "then": {"required": ["use"], "properties": {"use": use}, **({"allOf": mappings} if mappings else {})},
        "else": {"anyOf": named, **({"allOf": texts} if texts else {})},
    }


def _reference_to(kind: str, name: str, inside: str = "") -> Schema:
    return {"$ref": f"#/$defs/{kind}.{name}{inside}"}


def _component(kind: str, name: str, definitions: dict[str, Schema]) -> type[Component] | None:
    """The class of a component, described in `definitions`; None where it cannot be imported."""
    try:
        component = registries.registry().get(kind, name)
    except ComponentError:
        return None
    key = f"{kind}.{name}"
    schema = _model(component, key, definitions)
    # The text stands at `use` as well: there an editor shows it over the name.
    said = {"description": schema["description"]} if "description" in schema else {}
    schema["properties"] = {"use": {"type": "string", **said}, **schema.get("properties", {})}
    if kind == "stage":
        _add_overrides(schema)
    definitions[key] = schema
    return component


def _partial(value: Any) -> Any:
    """A schema as it is in an overlay: nothing is required, and null may stand wherever a variable may."""
    if isinstance(value, list):
        return [_partial(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    found: Schema = {}
    for name, item in value.items():
        if name == "$ref":
            found[name] = item.replace("#/$defs/", f"#/$defs/{PARTIAL}")
        elif (name == "if" and "$ref" not in item) or name in (
            "default",
            "examples",
            "const",
            "enum",
            "enumDescriptions",
        ):
            found[name] = item
        elif name == "properties":
            found[name] = {field: _partial(schema) for field, schema in item.items()}
        elif name not in ("required", "minProperties"):
            found[name] = _partial(item)
    return found


def _add_overrides(schema: Schema) -> None:
    """A stage may carry sections, merged over the global ones: their entries may be partial, or null."""
    properties = schema["properties"]
    for section in OVERRIDES:
        carried = {"type": "object", "additionalProperties": {"type": ["object", "string", "null"]}}
        own = properties.get(section)
        properties[section] = {"if": {"type": "object"}, "then": carried, "else": own} if own is not None else carried


def _model(model: type[BaseModel], key: str, definitions: dict[str, Schema]) -> Schema:
    """The schema of a class; the plain models inside it become definitions of their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = model.model_json_schema(ref_template=f"#/$defs/{key}.{{model}}")
    for name, inner in schema.pop("$defs", {}).items():
        definitions[f"{key}.{name}"] = _rewritten(inner)
    schema = _rewritten(schema)
    schema["title"] = key.replace(".", " ")
    for name, wanted in reference_fields(model).items():
        for written, property_ in schema.get("properties", {}).items():
            if field_of(model, written) == name:
                schema["properties"][written] = _reference(property_, inline=Data in wanted)
    return schema


def _reference(schema: Schema, *, inline: bool) -> Schema:
    """A field of references: one name stands for a list or a mapping of one, and data may be written in place."""
    name = {"type": "string", "pattern": f"^{NAME.pattern}$"}
    body = schema.get("else", schema)
    kept = {key: value for key, value in body.items() if key in ("description", "default")}
    choices = [{key: value for key, value in body.items() if key not in kept}]
    if any(form.get("type") in ("array", "object") for form in (body, *body.get("anyOf", ()))):
        choices.insert(0, name)
    if inline:
        choices.append({"type": "object", "required": ["use"], "$ref": "#/$defs/source"})
    return {**kept, **(_open(choices[0]) if len(choices) == 1 else _open({"anyOf": choices}))}


def _rewritten(value: Written) -> Written:
    """Kind markers as references to the kind, and room for a variable wherever a value stands."""
    if isinstance(value, list):
        return [_rewritten(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    found: Schema = {}
    for name, item in value.items():
        if name == "x-mmflow-kind":
            found["$ref"] = f"#/$defs/{item}"
        elif name == "properties":
            found[name] = {field: _with_variable(_rewritten(schema)) for field, schema in item.items()}
        elif name in ("items", "additionalProperties") and isinstance(item, Mapping):
            found[name] = _with_variable(_rewritten(item))
        elif name == "anyOf" and len(item) == 2 and item[1] == {"type": "null"}:
            # not an alternative, which would hide where the mistake is
            found |= {"if": {"type": "null"}, "else": _rewritten(item[0])}
        elif name in ("default", "examples", "const", "enum"):
            found[name] = item
        elif name != "identity":
            found[name] = _rewritten(item)
    return found


def _with_variable(schema: Schema) -> Schema:
    # Pydantic's title of a field is its name again.
    schema.pop("title", None)
    kept = {key: schema.pop(key) for key in ("description", "default") if key in schema}
    return {**kept, **_open(schema)}
