"""The smallest component of each kind, as text: what `mmflow show KIND` prints and `mmflow new KIND` writes."""

from __future__ import annotations

import re
from pathlib import Path

from mmflow.plugin.component import ComponentError

_FOLDER = Path(__file__).parent / "kinds"
NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Names of components, which are names of modules as well."""
OPENS = {"evaluator": "stage"}
"""Words of `mmflow new` that stand for another kind in the registry."""


def kinds() -> list[str]:
    """The kinds that have a smallest component."""
    return sorted(path.stem for path in _FOLDER.glob("*.py"))


def class_name(name: str) -> str:
    """`cosine_margin` as a class: `CosineMargin`."""
    return "".join(word.capitalize() for word in name.split("_"))


def component_text(kind: str, name: str) -> str:
    """The module of a component called `name`; raises `ComponentError` for an unknown kind or what is no name."""
    if kind not in kinds():
        raise ComponentError(f"there is nothing to begin a {kind} with", expected=f"one of: {', '.join(kinds())}")
    checked(name)
    text = (_FOLDER / f"{kind}.py").read_text(encoding="utf-8")
    return re.sub(r"\bNAME\b", name, re.sub(r"\bCLASS\b", class_name(name), text))


def checked(name: str) -> str:
    """`name`, if a component may be called so."""
    if NAME.fullmatch(name) is None or len(name) > 60:
        hint = "small letters, digits and underscores, beginning with a letter: cosine_margin"
        raise ComponentError(f"{name!r} cannot be the name of a component", hint=hint)
    return name
