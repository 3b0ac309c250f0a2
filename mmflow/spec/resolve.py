"""Where references lead: the names that one stage sees, the types behind them, and what needs what.

A reference is looked up among the things whose type its field accepts: encoder over view over field, and inside its
own definition one step outward. Everything else that fits as well is a tie, which asks for the section.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from mmflow.plugin.component import Component, Shared
from mmflow.plugin.kinds import Memory, Sampler, View
from mmflow.plugin.references import Encoded, Grid, Parameters, RefType, Sampled, TokenSequence
from mmflow.plugin.values import TensorType
from mmflow.spec.classes import field_of
from mmflow.spec.entry import Entry
from mmflow.spec.problems import Path, Problem, did_you_mean, dotted, with_article
from mmflow.spec.target import Target
from mmflow.spec.types import Types
from mmflow.spec.wanted import LEADS_TO, Output, fits, references, takes_raw

NODES = ("views", "encoders", "memories", "losses", "parts")
SECTIONS = ("fields", *NODES, "stages", "data", "sampler")
INIT = "init"

_SINGULAR = {
    "fields": "a field",
    "views": "a view",
    "encoders": "an encoder",
    "memories": "a memory",
    "losses": "a loss",
    "parts": "a part",
    "stages": "a stage",
    "data": "an entry of data",
    "sampler": "a field of the sampler",
}


class _Bad(Exception):
    """A reference that leads nowhere, with the parts of its problem."""

    def __init__(self, message: str, **parts: Any) -> None:
        super().__init__(message)
        self.message, self.parts = message, parts


@dataclass
class StageNames:
    """What the stages of a spec are to a reference: their outputs (None: unknown) and the encoders inside them."""

    gives: dict[str, Mapping[str, str] | None] = field(default_factory=dict)
    encoders: dict[str, frozenset[str]] = field(default_factory=dict)


class Resolver:
    """The names that one stage sees. Problems are collected in `problems`, each place once."""

    def __init__(
        self,
        entries: Mapping[str, Mapping[str, Entry]],
        fields: Mapping[str, TensorType] | None,
        data: Sequence[str],
        stages: StageNames,
        stage: Entry | None,
    ) -> None:
        self.entries, self.fields, self.data, self.stages, self.stage = entries, fields, data, stages, stage
        self.others: Mapping[str, Resolver] = {}
        """The resolvers of all stages, for encoders as another stage left them."""
        self.problems: dict[tuple[Path, Path], Problem] = {}
        self._targets: dict[str, dict[str, Target]] = {}
        self.types = Types(self)

    # ---- entries

    def entry(self, owner: str) -> Entry | None:
        if owner == "stage":
            return self.stage
        section, _, name = owner.partition(".")
        return self.entries.get(section, {}).get(name)

    def component(self, owner: str) -> Component | View | None:
        entry = self.entry(owner)
        return entry.component if entry is not None else None

    def report(self, entry: Entry, path: Path, problem: Problem) -> None:
        self.problems.setdefault((entry.path, path), problem)

    def targets(self, owner: str) -> Mapping[str, Target]:
        """Field path -> target for every reference inside an entry; those that lead nowhere are left out."""
        if owner not in self._targets:
            entry, found = self.entry(owner), {}
            if entry is not None and entry.component is not None:
                for path, text, wanted, kind in references(entry.component):
                    try:
                        found[dotted(path)] = self.resolve(text, wanted, kind, owner, takes_raw(entry.component, path))
                    except _Bad as bad:
                        self.report(entry, path, entry.problem(bad.message, as_written(entry, path), **bad.parts))
            self._targets[owner] = found
        return self._targets[owner]

    # ---- lookup

    def resolve(self, text: str, wanted: tuple[type[RefType], ...], kind: str, owner: str, raw: bool = False) -> Target:
        parts = text.split(".")
        if owner == "stage" and Encoded in wanted:
            wanted = (*wanted, Output)
        if not wanted:
            return self._shared(text, parts, kind)
        allowed = tuple(dict.fromkeys(section for t in wanted for section in LEADS_TO.get(t, ())))
        if parts[0] in SECTIONS and len(parts) > 1:
            return self._explicit(text, parts, wanted, allowed)
        found = self._candidates(parts, allowed, owner, raw)
        if len(found) > 1:
            names = [f"{section}.{text}" for section in found]
            raise _Bad(
                f"`{text}` may be {' or '.join(_SINGULAR[s] for s in found)}", hint=f"write {' or '.join(names)}"
            )
        if not found:
            if self.fields is None and "fields" in allowed:
                return Target("fields", parts[0], output=".".join(parts[1:]) or None)
            raise self._unknown(text, parts, wanted, allowed, owner)
        return self._finish(found[0], text, parts, wanted)

    def _candidates(self, parts: list[str], allowed: Sequence[str], owner: str, raw: bool) -> list[str]:
        name = parts[0]
        found: list[str] = []
        # What reads pictures or texts means the field, where an encoder of the same name gives vectors.
        for section in ("views", "fields", "encoders") if raw else ("encoders", "views", "fields"):
            if section in allowed and self._has(section, parts) and owner != f"{section}.{name}":
                found.append(section)
                break
        if "memories" in allowed and name in self.entries["memories"] and owner != f"memories.{name}":
            found.append("memories")
        if "data" in allowed and name in self.data:
            found.append("data")
        if name == INIT or name in self.stages.gives:
            # an encoder as a stage left it (`fit.image`), or data that it made and no entry of data
            inside = not found and len(parts) > 1
            found += ["stages"] if ("stages" in allowed and "data" not in found) or inside else []
        return found

    def _has(self, section: str, parts: list[str]) -> bool:
        if section == "fields":
            return self._field(parts) is not None
        return parts[0] in self.entries[section]

    def _field(self, parts: Sequence[str]) -> tuple[str, list[str]] | None:
        """The longest field name (a static field's has dots) that the parts begin with, and the rest."""
        for length in range(len(parts), 0, -1):
            name = ".".join(parts[:length])
            if self.fields is not None and name in self.fields:
                return name, list(parts[length:])
        return None

    def _unknown(
        self, text: str, parts: list[str], wanted: tuple[type[RefType], ...], allowed: Sequence[str], owner: str
    ) -> _Bad:
        expected = " or ".join(dict.fromkeys(t.says for t in wanted))
        for section in SECTIONS[:-1]:
            if section not in allowed and self._exists(section, parts) and owner != f"{section}.{parts[0]}":
                return _Bad(f"`{parts[0]}` is {_SINGULAR[section]}", expected=expected)
        for section in ("losses", "parts"):
            if section in allowed and parts[0] in self.entries[section]:
                return _Bad(f"`{parts[0]}` is {_SINGULAR[section]}", hint=f"write {section}.{text}")
        names = [name for section in allowed for name in self._names(section) if f"{section}.{name}" != owner]
        names = list(dict.fromkeys(names))
        if owner == f"encoders.{parts[0]}":
            message = f"`{parts[0]}` is this encoder itself, and nothing outside it has that name"
            return _Bad(message, hint=did_you_mean(parts[0], names, most=20))
        return _Bad(f"there is no `{parts[0]}` here", expected=expected, hint=did_you_mean(parts[0], names, most=20))

    def _exists(self, section: str, parts: list[str]) -> bool:
        if section == "stages":
            return parts[0] in self.stages.gives
        return parts[0] in self.data if section == "data" else self._has(section, parts)

    def _names(self, section: str) -> list[str]:
        if section == "fields":
            return list(self.fields or ())
        if section == "data":
            return list(self.data)
        if section == "stages":
            return [*self.stages.gives, INIT]
        return list(self.entries.get(section, ()))

    def _explicit(
        self, text: str, parts: list[str], wanted: tuple[type[RefType], ...], allowed: Sequence[str]
    ) -> Target:
        section, rest = parts[0], parts[1:]
        if section not in allowed and section != "stages":
            expected = " or ".join(dict.fromkeys(t.says for t in wanted))
            raise _Bad(f"`{text}` is {_SINGULAR[section]}", expected=expected)
        if section == "sampler":
            return self._of_sampler(text, ".".join(rest))
        if section == "fields" and self.fields is None:
            return Target("fields", ".".join(rest))
        known = (section == "stages" and rest[0] == INIT) or self._exists(section, rest)
        if not known:
            hint = did_you_mean(rest[0], self._names(section), otherwise=f"the section `{section}` is empty", most=20)
            raise _Bad(f"there is no `{rest[0]}` in `{section}`", hint=hint)
        return self._finish(section, text, rest, wanted)

    def _finish(self, section: str, text: str, parts: list[str], wanted: tuple[type[RefType], ...]) -> Target:
        name, rest = parts[0], parts[1:]
        if section == "stages":
            return self._of_stage(text, name, rest, wanted)
        if section == "data":
            if rest:
                raise _Bad(f"`{text}`: an entry of data has no parts", hint=f"write {name}")
            return Target("data", name)
        if section == "memories":
            return self._of_memory(text, name, rest)
        if section in ("losses", "parts"):
            return Target(section, name, output=".".join(rest) or None)
        return self._of_node(section, text, parts, wanted)

    # ---- what follows the name

    def _of_node(self, section: str, text: str, parts: list[str], wanted: tuple[type[RefType], ...]) -> Target:
        """An encoder, view or field: `[index] [output] [detach]`."""
        name, rest = parts[0], parts[1:]
        if section == "fields":
            name, rest = self._field(parts) or (name, rest)
        detach = rest[-1:] == ["detach"]
        rest = rest[: len(rest) - detach]
        if rest[-1:] == ["after"]:
            raise _Bad(f"`{text}`: only a memory has a state after the step", hint=f"write {name}")
        index = int(rest[0][:9]) if rest and rest[0].isascii() and rest[0].isdigit() else None
        output = ".".join(rest[index is not None :]) or None
        target = Target(section, name, index, output, detach)
        known = self.types.outputs_of(target.owner) if section != "fields" else {"": (self.fields or {})[name]}
        if known is None:
            return target
        main = self.types.main_output(section, target.owner, known)
        chosen = output if output is not None else main
        kind = _SINGULAR[section]
        if chosen is None or (chosen not in known and not self.types.is_tap(target)):
            self._no_output(text, target, known, wanted)
        declared = known.get(chosen) if chosen is not None else None
        if index is not None and declared is not None:
            if len(declared.axes) < 2:
                raise _Bad(
                    f"`{text}`: {name} is {kind} without copies or other groups", hint=f"write {_without(text, 1)}"
                )
            size = declared.groups[0] if declared.groups else None
            if size is not None and index >= size:
                last = f"{name}.{size - 1}"
                raise _Bad(
                    f"`{text}`: {name} has {size} of the axis {declared.axes[1]}", hint=f"the last one is {last}"
                )
        if not fits(wanted, target, declared):
            self._misfit(text, target, declared, known, wanted)
        return target

    def _no_output(
        self, text: str, target: Target, known: Mapping[str, TensorType], wanted: tuple[type[RefType], ...]
    ) -> None:
        names = [name for name in known if name]
        if target.output is None:
            if Encoded in wanted or Parameters in wanted:
                return
            raise _Bad(
                f"`{text}` has no pooled vector", hint=f"write {' or '.join(f'{target.name}.{n}' for n in names)}"
            )
        if target.section == "encoders":
            structure = self.types.structure(target.owner)
            names += structure[1].taps() if structure is not None else ()
        what = _SINGULAR[target.section]
        hint = did_you_mean(target.output, names, otherwise=f"write {target.name}", most=20)
        raise _Bad(f"`{text}`: {target.name} is {what} without `{target.output}`", hint=hint)

    def _misfit(
        self, text: str, target: Target, declared: TensorType | None, known: Mapping[str, TensorType],
        wanted: tuple[type[RefType], ...],
    ) -> None:  # fmt: skip
        expected = " or ".join(dict.fromkeys(t.says for t in wanted))
        found = f"`{text}`, {_SINGULAR[target.section]}"
        if declared is not None:
            found += f" of {declared.modality}"
        hint = None
        if Encoded in wanted and target.output is not None and target.section == "encoders":
            hint = f"it takes the whole encoding: write {target.name}"
        for kind, name in ((TokenSequence, "tokens"), (Grid, "grid")):
            if kind in wanted and target.output is None and name in known:
                hint = f"write {text}.{name}"
        if hint is None and target.section != "encoders" and "encoders" in {s for t in wanted for s in LEADS_TO[t]}:
            names = list(self.entries["encoders"])
            hint = did_you_mean(target.name, names, otherwise="encode it first", most=6)
        raise _Bad("", found=found, expected=expected, hint=hint)

    def _of_memory(self, text: str, name: str, rest: list[str]) -> Target:
        after = "after" in rest
        rest = [part for part in rest if part != "after"]
        column = ".".join(rest) or None
        memory = self.component(f"memories.{name}")
        if isinstance(memory, Memory):
            columns = list(memory.of)
            if column is None and columns == ["value"]:
                return Target("memories", name, after=after)
            if column is None and len(columns) == 1:
                column = columns[0]
            if column is None:
                raise _Bad(f"`{text}` has several columns", hint=f"write {' or '.join(f'{name}.{c}' for c in columns)}")
            if column not in columns:
                hint = did_you_mean(column, [c for c in columns if c != "value"], otherwise=f"write {name}")
                raise _Bad(f"`{text}`: the memory {name} has no column `{column}`", hint=hint)
        return Target("memories", name, output=column, after=after)

    def sampler_fields(self) -> Mapping[str, TensorType] | None:
        """The fields that the stage's sampler adds to what it draws; None where the stage is not known."""
        made = self.stage.component if self.stage is not None else None
        sampler = getattr(made, "sampler", None)
        return None if made is None else sampler.adds if isinstance(sampler, Sampler) else {}

    def _of_sampler(self, text: str, name: str) -> Target:
        fields = self.sampler_fields()
        if fields is not None and name not in fields:
            sampler = getattr(self.stage.component if self.stage is not None else None, "sampler", None)
            if not isinstance(sampler, Sampler):
                raise _Bad(f"`{text}`: this stage has no sampler", hint="a train stage has one")
            hint = did_you_mean(
                name, fields, otherwise="it adds none; `episodes` adds label, support and query", most=20
            )
            raise _Bad(f"`{text}`: the sampler {sampler.use} adds no field `{name}`", hint=hint)
        return Target("sampler", name)

    def _of_stage(self, text: str, name: str, rest: list[str], wanted: tuple[type[RefType], ...]) -> Target:
        if name == INIT and name not in self.stages.gives:
            gives: Mapping[str, str] | None = {"model": "Model"}
        else:
            gives = self.stages.gives[name]
        types = {t.__name__ for t in wanted} | ({"Column"} if Sampled in wanted else set())
        nodes = {s for t in wanted if "stages" not in LEADS_TO[t] for s in LEADS_TO[t]}
        if gives is None:
            return Target("stages", name, output=".".join(rest) or None)
        trained = "Model" in gives.values()
        if nodes and rest and trained and rest[0] in self.stages.encoders.get(name, ()):
            if name == INIT:
                raise _Bad(
                    f"not yet: an encoder of the untrained model (`{text}`)", hint="give the stage `model: init`"
                )
            inside = self.others.get(name, self)
            return replace(inside._of_node("encoders", text.partition(".")[2], rest, wanted), stage=name)
        output = ".".join(rest) or next((given for given in gives if given != "*"), None)
        fitting = output is not None and gives.get(output, gives.get("*")) in types
        if nodes and not fitting:
            if rest and not trained and (rest[0] in gives or "*" in gives):
                raise _Bad(f"not yet: a stage's output as a field of the data (`{text}`)")
            there = did_you_mean(
                rest[0] if rest else "", self.stages.encoders.get(name, ()), otherwise="name an encoder of it"
            )
            raise _Bad(f"`{text}` is no encoder of the stage {name}", hint=there)
        if not fitting:
            expected = " or ".join(dict.fromkeys(t.says for t in wanted))
            others = [f"{name}.{o}" for o, given in gives.items() if given in types]
            found = f"the stage `{text}`"
            if rest and rest[0] not in gives:
                near = did_you_mean(rest[0], gives, otherwise=None)
                raise _Bad(f"the stage {name} gives no `{'.'.join(rest)}`", expected=expected, hint=near)
            hint = f"write {' or '.join(others)}" if others else self._stages_that_give(types)
            raise _Bad("", found=found, expected=expected, hint=hint)
        return Target("stages", name, output=".".join(rest) or None)

    def _stages_that_give(self, types: set[str]) -> str | None:
        names = [name for name, gives in self.stages.gives.items() if types & set((gives or {}).values())]
        return f"such as {', '.join(names[:4])}" if names else None

    def _shared(self, text: str, parts: list[str], kind: str) -> Target:
        """A dotted path in a component field: that very component."""
        section = parts[0]
        if section not in NODES:
            if kind == "value" and section in (*self.stages.gives, *(self.fields or ()), *SECTIONS):
                raise _Bad(f"not yet: a number for each row (`{text}`)")
            if any(gives is None for gives in self.stages.gives.values()) and section in self.stages.gives:
                return Target("stages", section, output=".".join(parts[1:]) or None)
            hint = did_you_mean(section, NODES, otherwise="begin with the section: parts.NAME or losses.NAME.FIELD")
            raise _Bad(f"`{text}` is no path to {with_article(kind)}", hint=hint)
        name = parts[1]
        if name not in self.entries[section]:
            hint = did_you_mean(name, self._names(section), otherwise=f"the section `{section}` is empty", most=20)
            raise _Bad(f"there is no `{name}` in `{section}`", hint=hint)
        target = Target(section, name, output=".".join(parts[2:]) or None)
        made: Any = self.component(target.owner)
        if made is None:
            return target
        for part in parts[2:]:
            attribute = field_of(type(made), part) if isinstance(made, BaseModel) else None
            if attribute is None:
                if kind == "value":
                    names = type(made).model_fields if isinstance(made, BaseModel) else ()
                    near = did_you_mean(part, names, otherwise="name a field that holds a number")
                    raise _Bad(f"`{text}`: {section}.{name} has no field `{part}`", hint=near)
                raise _Bad(f"`{text}` is no {kind}", hint=f"write {section}.{name}")
            made = getattr(made, attribute)
        if not isinstance(made, Shared) and getattr(made, "kind", None) != kind:
            found = with_article(made.kind) if isinstance(made, Component) else "no component"
            raise _Bad(f"`{text}`", found=found, expected=with_article(kind))
        return target

    # ---- order

    def needs(self, owner: str) -> tuple[list[str], list[str]]:
        """What must come before an entry, and what it needs without an order (a memory's old state)."""
        before: list[str] = []
        beside: list[str] = []
        targets = [*self.targets(owner).values()]
        if owner.startswith("encoders."):
            targets += self.types.inputs(owner).values()
        for target in targets:
            if target.section in ("stages", "data", "sampler") or target.stage is not None or target.owner == owner:
                continue
            soft = (target.section == "memories" and not target.after) or target.section in ("losses", "parts")
            (beside if soft else before).append(target.owner)
        return before, beside

    def reach(self, *owners: str) -> tuple[str, ...]:
        """All that the owners need, each after what must come before it; circles are reported and cut."""
        done: dict[str, None] = {}
        queue = list(owners)
        while queue:
            self._visit(queue.pop(0), done, [], queue)
        return tuple(owner for owner in done if owner != "stage")

    def _visit(self, owner: str, done: dict[str, None], path: list[str], queue: list[str]) -> None:
        if owner in done:
            return
        if owner in path:
            self._circle([*path[path.index(owner) :], owner])
            return
        path.append(owner)
        before, beside = self.needs(owner)
        for need in before:
            self._visit(need, done, path, queue)
        path.pop()
        done[owner] = None
        queue += [need for need in beside if need not in done]

    def _circle(self, owners: list[str]) -> None:
        first = min(owners)
        entry = self.entry(first)
        turned = owners[:-1]
        turned = turned[turned.index(first) :] + turned[: turned.index(first)]
        names = " -> ".join([*turned, first])
        if entry is not None and not any(problem.message.startswith("a circle") for problem in self.problems.values()):
            hint = "read a memory, a copy or a detached earlier output instead"
            self.report(entry, ("of",), entry.problem(f"a circle: {names}", ("of",), hint=hint))


def as_written(entry: Entry, path: Path) -> Path:
    """The path as written: `of: image` stands for a list of one, a memory's for a mapping of one."""
    return path if entry.node.at(path) is not None or not path else path[:-1]


def _without(text: str, part: int) -> str:
    parts = text.split(".")
    return ".".join(parts[:part] + parts[part + 1 :])
