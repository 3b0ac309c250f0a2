"""`Spec`: a checked spec, and the same spec written out with everything that it left open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmflow.plugin.component import Component
from mmflow.plugin.kinds import Encoder, Loss, Memory, Source, Stage, Tracker, View
from mmflow.plugin.references import Written
from mmflow.plugin.targets import Owner
from mmflow.plugin.values import Json
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.refresh import PARTS
from mmflow.spec.components.repeat import Iteration, Repetition
from mmflow.spec.components.sections import LANGUAGE, Report
from mmflow.spec.references.scope import Scope
from mmflow.spec.text.document import Document, Node
from mmflow.spec.text.problems import Path, Problem
from mmflow.spec.text.yaml_writer import write_yaml


@dataclass(frozen=True)
class Spec:
    """A checked spec. Two are equal where everything that they declare is."""

    name: str
    seed: int
    report: Report
    data: Mapping[str, Source]
    views: Mapping[str, View]
    encoders: Mapping[str, Encoder]
    memories: Mapping[str, Memory]
    losses: Mapping[str, Loss]
    parts: Mapping[str, Component]
    stages: Mapping[str, Stage]
    """Every stage, those of a repetition for each iteration: `round.2.fit`."""
    inner: Mapping[str, Stage]
    """The stages inside others by their full names (`fit.em.feats`), in each form that they have."""
    repeats: Mapping[str, Repetition]
    iterations: Mapping[str, Iteration]
    """Of the stages inside a repetition, by their names."""
    track: Mapping[str, Tracker]
    overridden: Mapping[str, Mapping[str, Mapping[str, Component | View | None]]]
    """Stage -> section -> name -> the entry that the stage has instead; None where it removed one."""
    document: Document = field(compare=False, repr=False)
    scopes: Mapping[str, Scope] = field(compare=False, repr=False)
    entries: tuple[Entry, ...] = field(compare=False, repr=False)
    notes: tuple[Problem, ...] = field(default=(), compare=False, repr=False)
    """Advice about a spec that can be used as it is, such as old names."""

    @property
    def trains(self) -> bool:
        """Whether any of its stages does."""
        return any(stage.trains for stage in self.stages.values())

    def scope(self, stage: str) -> Scope:
        """The view of a stage; KeyError for a stage that is not there."""
        return self.scopes[stage]

    def place(self, stage: str, owner: Owner) -> Entry | None:
        """Where an entry is written as a stage sees it: in the stage itself, or for all stages."""
        found = {entry.path: entry for entry in self.entries if entry.owner == owner}
        above = next((entry.path for entry in self.entries if entry.owner == Owner("stages", stage)), ())
        own = found.get((*above, owner.section, owner.name))
        return own or next(iter(found.values()), None)

    def resolved(self) -> dict[str, Json]:
        """The spec with everything written out, as data of the language that validates to an equal spec.

        Every section comes in order. `train` and `eval` are written as `stages`; values of the environment by name.
        """
        written = {entry.path: entry for entry in self.entries}
        places = {entry.owner: entry.path for entry in self.entries if len(entry.path) < 4}

        def entry(path: Path, made: Component | View) -> Written:
            data = _escaped(made.declared() if isinstance(made, Component) else view_as_written(made))
            if isinstance(made, Component) and path[0] == "parts":
                data = {**data, "use": f"{made.kind}/{made.use}"} if isinstance(data, dict) else data
            for place, value in written[path].node.environment() if path in written else ():
                _put(data, place, value.text)
            return data

        def section(name: str, made: Mapping[str, Component | View]) -> dict[str, Written]:
            return {key: entry(places.get(Owner(name, key), (name, key)), one) for key, one in made.items()}

        found: dict[str, Written] = {"mmflow": LANGUAGE, "name": _escaped(self.name), "seed": self.seed}
        sections: dict[str, Mapping[str, Component | View]] = {
            "data": self.data, "views": self.views, "encoders": self.encoders, "memories": self.memories,
            "losses": self.losses, "parts": self.parts,
        }  # fmt: skip
        found |= {name: section(name, made) for name, made in sections.items() if made}
        stages: dict[str, Written] = {}
        for name, declaration in self.stages.items():
            if name in self.iterations:
                repeat = self.iterations[name].repeat
                if repeat not in stages and (written_there := self._written(repeat)) is not None:
                    stages[repeat] = _as_written(written_there)
                continue
            above = places[Owner("stages", name)]
            stages[name] = {**entry(above, declaration)}
            groups = self.document.node((*above, declaration.inner)) if declaration.inner else None
            for group, node in groups.entries().items() if groups is not None else ():
                inside = {part: child for part, child in node.entries().items() if part in PARTS}
                stages[name][declaration.inner][group] |= {p: _as_written(child) for p, child in inside.items()}
            for carried, own in self.overridden.get(name, {}).items():
                base = found.get(carried, {})
                stages[name][carried] = {
                    n: None if one is None else difference(base.get(n), entry((*above, carried, n), one))
                    for n, one in own.items()
                }
        if stages:
            found["stages"] = stages
        if self.track:
            found["track"] = section("track", self.track)
        if report := self.report.model_dump(exclude_defaults=True):
            found["report"] = _escaped(report)
        return found

    def _written(self, stage: str) -> Node | None:
        """A stage as the file has it."""
        sections = map(self.document.root.child, ("stages", "eval"))
        found = [section.entries()[stage] for section in sections if section is not None and stage in section.entries()]
        return found[0] if found else None

    def to_yaml(self) -> str:
        """`resolved` as YAML text. Values of the environment stay `${env.NAME}`."""
        return write_yaml(self.resolved())


def difference(base: Written, over: Written) -> Written:
    """The least that, merged over `base`, gives `over`."""
    if not (isinstance(base, dict) and isinstance(over, dict)) or base.get("use") != over.get("use"):
        return over
    changed = {
        name: difference(base[name], value) if name in base else value
        for name, value in over.items()
        if name not in base or base[name] != value
    }
    return {**changed, **{name: None for name in base if name not in over}}


def view_as_written(view: View) -> dict[str, Written]:
    """An entry of `views` as plain data, defaults included."""
    return {
        "of": [str(name) for name in view.of],
        "apply": [step.declared() for step in view.apply],
        "copies": view.copies,
        "draws": view.draws,
    }


def _escaped(value: Written) -> Written:
    """The value with each dollar sign doubled, as a text of the language writes it."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {name: _escaped(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value


def _as_written(node: Node) -> Written:
    """The tree as data of the language, values of the environment by name."""
    if isinstance(node.value, Mapping):
        return {name: _as_written(child) for name, child in node.value.items()}
    if isinstance(node.value, tuple):
        return [_as_written(child) for child in node.value]
    return node.text if node.env else _escaped(node.value)


def _put(data: Written, path: Path, text: str | None) -> None:
    for part in path[:-1]:
        data = data[part]
    if path and not isinstance(data, str):
        data[path[-1]] = text
