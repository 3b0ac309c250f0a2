"""New plugins, and new components in them."""

from __future__ import annotations

import ast
import keyword
import re
import tomllib
from pathlib import Path

from mmflow.plugin.component import ComponentError
from mmflow.scaffold.components import OPENS, checked, class_name, component_text

_FOLDER = Path(__file__).parent / "plugin"
_FIRST = {"loss": "distance", "encoder": "mlp", "evaluator": "length"}
"""The kinds that a new plugin begins with, each with the end of its component's name."""
_DISTRIBUTION = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


def new_plugin(name: str, folder: Path) -> list[Path]:
    """Write a plugin with a loss, an encoder and an evaluator, a spec and tests; the files that were written.

    Raises `ComponentError` for a name that no distribution or module could have, and where `folder` holds something.
    """
    package = name.replace("-", "_")
    if _DISTRIBUTION.fullmatch(name) is None or keyword.iskeyword(package) or len(name) > 40:
        hint = "small letters, digits and hyphens, beginning with a letter: my-losses"
        raise ComponentError(f"{name!r} cannot be the name of a plugin", hint=hint)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ComponentError(f"{folder} is there already", hint="name another place with --at")
    texts: dict[str, str] = {}
    for template in sorted(_FOLDER.rglob("*.txt")):
        place = template.relative_to(_FOLDER).as_posix().removesuffix(".txt").replace("PACKAGE", package)
        texts[place] = _filled(template.read_text(encoding="utf-8"), name, package)
    for kind, word in _FIRST.items():
        texts[f"{package}/{package}_{word}.py"] = component_text(kind, f"{package}_{word}")
    written: list[Path] = []
    for place, text in texts.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _filled(text: str, name: str, package: str) -> str:
    for word in _FIRST.values():
        text = text.replace(f"CLASS_{word}", class_name(f"{package}_{word}"))
    return text.replace("DISTRIBUTION", name).replace("PACKAGE", package)


def new_component(kind: str, name: str, folder: Path) -> tuple[Path, str]:
    """Write a component into the plugin in `folder` and name it in its hook: the file, and the line of the hook that
    its author has to add by hand (empty where it was added).

    Raises `ComponentError` where `folder` is no plugin, or has the component already.
    """
    text = component_text(kind, checked(name))
    package = _package_of(folder)
    path = package / f"{name}.py"
    if path.exists():
        raise ComponentError(f"{path} is there already", hint="name the component otherwise")
    key, value = f"{OPENS.get(kind, kind)}/{name}", f"{package.name}.{name}:{class_name(name)}"
    hook = package / "__init__.py"
    added = _with_entry(hook.read_text(encoding="utf-8"), key, value)
    path.write_text(text, encoding="utf-8")
    if added is None:
        return path, f'"{key}": "{value}",'
    hook.write_text(added, encoding="utf-8")
    return path, ""


def _package_of(folder: Path) -> Path:
    """The folder of the module that the entry point of a plugin names."""
    hint = "begin one with `mmflow new plugin NAME`, or name its folder with --at"
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        points = project["project"]["entry-points"]["mmflow"]
        module = str(next(iter(points.values()))).partition(":")[0]
    except (OSError, tomllib.TOMLDecodeError, KeyError, StopIteration, AttributeError):
        raise ComponentError(f"{folder} is no plugin: no entry point of the group mmflow", hint=hint) from None
    for place in (folder, folder / "src"):
        package = place.joinpath(*module.split("."))
        if (package / "__init__.py").is_file():
            return package
    raise ComponentError(f"{folder} has no package {module}, which its entry point names", hint=hint)


def _with_entry(source: str, key: str, value: str) -> str | None:
    """The module with one more entry in the mapping that its hook returns; None where that is no plain mapping."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or node.name != "mmflow_components":
            continue
        for inside in ast.walk(node):
            if isinstance(inside, ast.Return) and isinstance(inside.value, ast.Dict):
                return _inserted(source, inside.value, f'"{key}": "{value}"')
    return None


def _inserted(source: str, mapping: ast.Dict, entry: str) -> str:
    lines = source.splitlines(keepends=True)
    assert mapping.end_lineno is not None
    assert mapping.end_col_offset is not None
    last = mapping.end_lineno - 1
    if mapping.end_lineno > mapping.lineno and mapping.values:
        final = mapping.values[-1]
        assert final.end_lineno is not None
        assert final.end_col_offset is not None
        row = lines[final.end_lineno - 1].encode()
        rest = row[final.end_col_offset :].decode()
        if not rest.lstrip().startswith(","):
            lines[final.end_lineno - 1] = row[: final.end_col_offset].decode() + "," + rest
        indent = " " * (mapping.keys[-1].col_offset if mapping.keys[-1] is not None else 8)
        lines.insert(last, f"{indent}{entry},\n")
        return "".join(lines)
    row = lines[last].encode()
    before, after = row[: mapping.end_col_offset - 1].decode(), row[mapping.end_col_offset - 1 :].decode()
    comma = ", " if mapping.values and not before.rstrip().endswith(",") else ""
    lines[last] = f"{before}{comma}{entry}{after}"
    return "".join(lines)
