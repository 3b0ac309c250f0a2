"""A checked spec written out: defaults, models, variables, everything, as data that validates to an equal spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmflow.plugin.component import Component
from mmflow.plugin.kinds import View
from mmflow.spec.problems import Path

if TYPE_CHECKING:
    from mmflow.spec.spec import Spec

LANGUAGE = 1


def resolved_data(spec: Spec) -> dict[str, Any]:
    """Every section in order. `train` and `eval` are written as `stages`; values of the environment by name."""
    environment = {entry.path: entry.node for entry in spec.entries if entry.node.env or entry.node.children()}

    def entry(path: Path, made: Component | View) -> Any:
        data = _escaped(made.declared() if isinstance(made, Component) else _of_view(made))
        if isinstance(made, Component) and path[0] == "parts":
            data = {**data, "use": f"{made.kind}/{made.use}"} if isinstance(data, dict) else data
        node = environment.get(path)
        for place, value in node.environment() if node is not None else ():
            _put(data, place, value.text)
        return data

    found: dict[str, Any] = {"mmflow": LANGUAGE, "name": _escaped(spec.name), "seed": spec.seed}
    places = {entry.owner: entry.path for entry in spec.entries if len(entry.path) < 4}
    for section in ("data", "views", "encoders", "memories", "losses", "parts"):
        made: Mapping[str, Any] = getattr(spec, section)
        if made:
            found[section] = {
                name: entry(places.get(f"{section}.{name}", (section, name)), one) for name, one in made.items()
            }
    stages: dict[str, Any] = {}
    for name, declaration in spec.stages.items():
        stages[name] = {**entry(places[f"stages.{name}"], declaration)}
        for section, own in spec.overridden.get(name, {}).items():
            base = found.get(section, {})
            path = (*places[f"stages.{name}"], section)
            stages[name][section] = {
                n: None if one is None else difference(base.get(n), entry((*path, n), one)) for n, one in own.items()
            }
    if stages:
        found["stages"] = stages
    if spec.report:
        found["report"] = report = _escaped(dict(spec.report))
        node = spec.document.node(("report",))
        for place, value in node.environment() if node is not None else ():
            _put(report, place, value.text)
    if spec.track:
        found["track"] = {name: entry(("track", name), tracker) for name, tracker in spec.track.items()}
    return found


def difference(base: Any, over: Any) -> Any:
    """The least that, merged over `base`, gives `over`."""
    if not (isinstance(base, dict) and isinstance(over, dict)) or base.get("use") != over.get("use"):
        return over
    changed = {
        name: difference(base[name], value) if name in base else value
        for name, value in over.items()
        if name not in base or base[name] != value
    }
    return {**changed, **{name: None for name in base if name not in over}}


def _of_view(view: View) -> dict[str, Any]:
    return {
        "of": [str(name) for name in view.of],
        "apply": [step.declared() for step in view.apply],
        "copies": view.copies,
    }


def _escaped(value: Any) -> Any:
    """The value with each dollar sign doubled, as a text of the language writes it."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {name: _escaped(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value


def _put(data: Any, path: Path, text: str | None) -> None:
    for part in path[:-1]:
        data = data[part]
    if path and not isinstance(data, str):
        data[path[-1]] = text
