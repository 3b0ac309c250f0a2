"""The JSON Schema in a project of VS Code: the file, and the settings that name it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from mmflow.plugin.component import ComponentError
from mmflow.plugin.values import Json

FILE = "mmflow.schema.json"
SCHEMAS = "yaml.schemas"
"""The setting of the extension YAML that says which schema belongs to which files."""
MATCH = ("spec.yaml", "**/specs/**/*.yaml", "*.mmflow.yaml")
"""Files that are specs, where nothing else is said."""


def install_schema(schema: Json, project: Path, match: Sequence[str] = ()) -> list[Path]:
    """Write the schema and its association with the files `match`; gives the files that were written.

    Other settings stay as they are, and so do files that are associated already where `match` is empty. Raises
    `ComponentError` where there is no such folder, and, after the schema is written, where the settings cannot be
    changed without harm: with comments, or not as VS Code writes them. The message says what to add by hand.
    """
    if not project.is_dir():
        raise ComponentError(f"{project} is no folder", hint="name the folder of the project with --at")
    folder = project / ".vscode"
    folder.mkdir(exist_ok=True)
    path, settings = folder / FILE, folder / "settings.json"
    _write(path, json.dumps(schema, ensure_ascii=False, separators=(",", ":")) + "\n")
    name = f"./.vscode/{FILE}"
    text = settings.read_text(encoding="utf-8") if settings.exists() else ""
    found = _settings(text, settings, {SCHEMAS: {name: list(match or MATCH)}})
    schemas = found.setdefault(SCHEMAS, {})
    if match or name not in schemas:
        schemas[name] = list(match or MATCH)
        indent = re.search(r"^\{\s*\n([ \t]+)\S", text)
        _write(settings, json.dumps(found, indent=indent[1] if indent else 4, ensure_ascii=False) + "\n")
        return [path, settings]
    return [path]


def _settings(text: str, path: Path, wanted: dict[str, Json]) -> dict[str, dict[str, Json]]:
    """The settings as they are; raises `ComponentError` with what is `wanted` where they are no plain JSON mapping."""
    hint = f"add by hand: {json.dumps(wanted)[1:-1]}"
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError:
        why = "is not plain JSON (comments, or commas at ends), which would be lost"
        raise ComponentError(f"{path} {why}: it stays as it is", hint=hint) from None
    if not isinstance(found, dict) or not isinstance(found.get(SCHEMAS, {}), dict):
        raise ComponentError(f"{path} has no mapping {SCHEMAS!r}: it stays as it is", hint=hint)
    return found


def _write(path: Path, text: str) -> None:
    """All of the text or none: an editor may read while this writes."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
