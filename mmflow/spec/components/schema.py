"""The JSON Schema of the whole language with every installed component, for editors.

A component is chosen by an if/then chain on `use`, so that an error is told at the very field, and not as "matches
none of the alternatives". References are checked by form only; `mmflow check` knows where they lead.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from mmflow.plugin import registry as registries
from mmflow.plugin.component import DOTTED, Component, ComponentError
from mmflow.plugin.kinds import View
from mmflow.plugin.references import NAME, Data, Written, reference_fields
from mmflow.spec.components.classes import field_of
from mmflow.spec.components.named import KINDS
from mmflow.spec.components.sections import Report
from mmflow.spec.components.stages import OVERRIDES

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VARIABLE = r"^\$\{?(vars|env)\."
ENTRY_NAME = "^[A-Za-z_][A-Za-z0-9_-]*$"

Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema as plain data. A component that cannot be imported is known by name only."""
    registry = registries.registry()
    definitions: dict[str, Schema] = {}
    chosen: list[Schema] = []
    for kind in registry.kinds():
        branches = [
            branch
            for name in registry.names(kind)
            if (branch := _component_branch(kind, name, definitions)) is not None
        ]
        definitions[kind] = _kind(kind, registry.names(kind), branches)
        chosen += branches
    for kind in sorted({opened.kind for opened in Component.__subclasses__()} - set(definitions)):
        definitions[kind] = _kind(kind, [], [])
    uses = [name for kind in registry.kinds() for name in registry.names(kind)]
    uses += [f"{kind}/{name}" for kind in registry.kinds() for name in registry.names(kind)]
    definitions["part"] = _chain(sorted(set(uses)), chosen, ["string"])
    definitions["view"] = _model(View, "view", definitions)
    sections: dict[str, Schema] = {
        "mmflow": {"const": 1, "description": "version of the language"},
        "name": {"type": "string", "description": "of the run; the file's name where it is left out"},
        "seed": _open({"type": "integer", "minimum": 0}),
        "vars": {"type": "object", "description": "values for $vars.NAME"},
        "extends": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "matrix": {"type": "object"},
        "report": _model(Report, "report", definitions),
        "views": _entries({"$ref": "#/$defs/view"}),
        "parts": _entries({"$ref": "#/$defs/part"}),
        "train": {"$ref": "#/$defs/stage.train"} if "stage.train" in definitions else {"type": "object"},
        "stages": _entries({"$ref": "#/$defs/stage"}),
        "eval": _entries({"$ref": "#/$defs/stage"}),
    }
    sections |= {name: _entries({"$ref": f"#/$defs/{kind}"}) for name, kind in KINDS.items() if kind}
    trackers = {"type": "array", "items": _open({"$ref": "#/$defs/tracker"})}
    sections["track"] = {"if": {"type": "array"}, "then": trackers, "else": sections["track"]}
    return {
        "$schema": DIALECT,
        "title": "mmflow spec",
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _entries(schema: Schema) -> Schema:
    return {"type": ["object", "null"], "propertyNames": {"pattern": ENTRY_NAME}, "additionalProperties": _open(schema)}


def _open(schema: Schema) -> Schema:
    """The schema, or a variable in its place."""
    return {"if": {"type": "string", "pattern": VARIABLE}, "else": schema}


def _kind(kind: str, names: list[str], branches: list[Schema]) -> Schema:
    return _chain(
        [*names, *(f"{kind}/{name}" for name in names)], branches, ["string"] + ["number"] * (kind == "value")
    )


def _chain(names: list[str], branches: list[Schema], short: list[str]) -> Schema:
    """A mapping with `use`, a bare name, or a dotted path to another component."""
    use = {"anyOf": [{"enum": names}, {"type": "string", "pattern": "@"}]}
    named = {"anyOf": [*use["anyOf"], {"type": "string", "pattern": f"^{DOTTED.pattern}$"}]}
    return {
        "if": {"type": "object"},
        "then": {"required": ["use"], "properties": {"use": use}, **({"allOf": branches} if branches else {})},
        "else": {"type": short, "if": {"type": "string"}, "then": named},
    }


def _component_branch(kind: str, name: str, definitions: dict[str, Schema]) -> Schema | None:
    try:
        component = registries.registry().get(kind, name)
    except ComponentError:
        return None
    key = f"{kind}.{name}"
    schema = _model(component, key, definitions)
    schema["properties"] = {"use": {"type": "string"}, **schema.get("properties", {})}
    if kind == "stage":
        _add_overrides(schema)
    definitions[key] = schema
    wanted = {"properties": {"use": {"enum": [name, f"{kind}/{name}"]}}, "required": ["use"]}
    return {"if": wanted, "then": {"$ref": f"#/$defs/{key}"}}


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
    kept = {key: value for key, value in body.items() if key in ("title", "description", "default")}
    choices = [{key: value for key, value in body.items() if key not in kept}]
    if body.get("type") in ("array", "object"):
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
    kept = {key: schema.pop(key) for key in ("title", "description", "default") if key in schema}
    return {**kept, **_open(schema)}
