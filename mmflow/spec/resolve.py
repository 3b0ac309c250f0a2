"""Where references lead: the names that one stage sees, the types behind them, and what needs what.

A reference is looked up among the things whose type its field accepts: encoder over view over field, and inside its
own definition one step outward. Everything else that fits as well is a tie, which asks for the section.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from mmflow.plugin.component import ON_REQUEST, Component, Shared
from mmflow.plugin.kinds import Encoder, Evaluator, Loss, Memory, Score, View
from mmflow.plugin.references import (
    Bank,
    Column,
    Data,
    Encoded,
    Files,
    Grid,
    Index,
    Labels,
    Metrics,
    Model,
    Parameters,
    Pooled,
    RawField,
    Ref,
    RefType,
    Static,
    TokenSequence,
    Weight,
    reference_fields,
)
from mmflow.plugin.values import TensorType
from mmflow.spec.problems import Path, Problem, did_you_mean, dotted, with_article
from mmflow.spec.target import Target
from mmflow.spec.validate import Entry, field_of, models_in

NODES = ("views", "encoders", "memories", "losses", "parts")
SECTIONS = ("fields", *NODES, "stages", "data", "sampler")
INIT = "init"

_RAW = frozenset({"image", "text", "audio", "video", "graph"})
_WHOLE_NUMBERS = frozenset({"label", "labels", "index", "number", "id", "mask"})
_FROM: Mapping[type[RefType], tuple[str, ...]] = {
    Encoded: ("encoders",),
    Pooled: ("encoders", "fields", "views", "sampler"),
    TokenSequence: ("encoders",),
    Grid: ("encoders",),
    RawField: ("fields", "views", "sampler"),
    Labels: ("encoders", "fields", "views", "sampler"),
    Index: ("encoders", "sampler"),
    Weight: ("encoders", "fields", "views", "sampler"),
    Bank: ("memories",),
    Parameters: ("encoders", "losses", "parts", "memories"),
    Data: ("data",),
    Model: ("stages",),
    Column: ("stages",),
    Static: ("stages",),
    Files: ("stages",),
    Metrics: ("stages",),
}
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


def references(made: Any, path: Path = ()) -> Iterator[tuple[Path, str, tuple[type[RefType], ...], str]]:
    """Every reference and shared path inside a component: where, what, the accepted types, the expected kind."""
    if not isinstance(made, BaseModel):
        return
    wanted = reference_fields(type(made))
    for name, info in type(made).model_fields.items():
        kinds = [model.kind for model in models_in(info.annotation) if issubclass(model, Component)]
        kind = kinds[0] if kinds else ""
        yield from _leaves(getattr(made, name), (*path, info.alias or name), wanted.get(name, ()), kind)


def _leaves(
    value: Any, path: Path, wanted: tuple[type[RefType], ...], kind: str
) -> Iterator[tuple[Path, str, tuple[type[RefType], ...], str]]:
    if isinstance(value, Shared):
        yield path, value.path, (), kind
    elif isinstance(value, Ref):
        yield path, str(value), wanted, ""
    elif isinstance(value, BaseModel):
        yield from references(value, path)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, (*path, name), wanted, kind)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index), wanted, kind)


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
        self.problems: dict[tuple[Path, Path], Problem] = {}
        self._targets: dict[str, dict[str, Target]] = {}
        self._outputs: dict[str, Mapping[str, TensorType] | None] = {}
        self._open: list[str] = []

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
                        found[dotted(path)] = self.resolve(text, wanted, kind, owner)
                    except _Bad as bad:
                        self.report(entry, path, entry.problem(bad.message, _written(entry, path), **bad.parts))
            self._targets[owner] = found
        return self._targets[owner]

    # ---- lookup

    def resolve(self, text: str, wanted: tuple[type[RefType], ...], kind: str, owner: str) -> Target:
        parts = text.split(".")
        if not wanted:
            return self._shared(text, parts, kind)
        allowed = tuple(dict.fromkeys(section for t in wanted for section in _FROM.get(t, ())))
        if parts[0] in SECTIONS and len(parts) > 1:
            return self._explicit(text, parts, wanted, allowed)
        found = self._candidates(parts, allowed, owner)
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

    def _candidates(self, parts: list[str], allowed: Sequence[str], owner: str) -> list[str]:
        name = parts[0]
        found: list[str] = []
        for section in ("encoders", "views", "fields"):
            if section in allowed and self._has(section, parts) and owner != f"{section}.{name}":
                found.append(section)
                break
        if "memories" in allowed and name in self.entries["memories"] and owner != f"memories.{name}":
            found.append("memories")
        if "data" in allowed and name in self.data:
            found.append("data")
        if name == INIT or name in self.stages.gives:
            # `fit.image`: an encoder as a stage left it
            inside = not found and len(parts) > 1
            found += ["stages"] if "stages" in allowed or inside else []
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
            return Target("sampler", ".".join(rest))
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
        known = self.outputs_of(target.owner) if section != "fields" else {"": (self.fields or {})[name]}
        if known is None:
            return target
        main = self.main_output(section, target.owner, known)
        chosen = output if output is not None else main
        kind = _SINGULAR[section]
        if chosen is None or (chosen not in known and not self._tap(target)):
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
        if not _fits(wanted, target, declared):
            self._misfit(text, target, declared, known, wanted)
        return target

    def _tap(self, target: Target) -> bool:
        if target.section != "encoders" or target.output is None:
            return False
        structure = self.structure(target.owner)
        return structure is not None and target.output in structure[1].taps()

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
            structure = self.structure(target.owner)
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
        if hint is None and target.section != "encoders" and "encoders" in {s for t in wanted for s in _FROM[t]}:
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

    def _of_stage(self, text: str, name: str, rest: list[str], wanted: tuple[type[RefType], ...]) -> Target:
        if name == INIT and name not in self.stages.gives:
            gives: Mapping[str, str] | None = {"model": "Model"}
        else:
            gives = self.stages.gives[name]
        types = {t.__name__ for t in wanted}
        nodes = {s for t in wanted for s in _FROM[t]} - {"stages", "data"}
        if gives is None:
            return Target("stages", name, output=".".join(rest) or None)
        if nodes and rest and rest[0] in self.stages.encoders.get(name, ()):
            inside = self._of_node("encoders", text, rest, wanted)
            return replace(inside, stage=None if name == INIT else name)
        if nodes:
            if rest and (rest[0] in gives or "*" in gives):
                raise _Bad(f"not yet: a stage's output as a field of the data (`{text}`)")
            there = did_you_mean(
                rest[0] if rest else "", self.stages.encoders.get(name, ()), otherwise="name an encoder of it"
            )
            raise _Bad(f"`{text}` is no encoder of the stage {name}", hint=there)
        output = ".".join(rest) or next((given for given in gives if given != "*"), None)
        if output is None or gives.get(output, gives.get("*")) not in types:
            expected = " or ".join(dict.fromkeys(t.says for t in wanted))
            fitting = [f"{name}.{o}" for o, given in gives.items() if given in types]
            found = f"the stage `{text}`"
            if rest and rest[0] not in gives:
                near = did_you_mean(rest[0], gives, otherwise=None)
                raise _Bad(f"the stage {name} gives no `{'.'.join(rest)}`", expected=expected, hint=near)
            hint = f"write {' or '.join(fitting)}" if fitting else self._stages_that_give(types)
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

    # ---- types

    def main_output(self, section: str, owner: str, known: Mapping[str, TensorType]) -> str | None:
        """The output that a bare name means: `pooled` of an encoder, the first field of a view."""
        if section == "encoders":
            return "pooled" if "pooled" in known else None
        return next(iter(known), None)

    def type_of(self, target: Target) -> TensorType | None:
        """The declared type behind a target; None where it is unknown."""
        if target.section == "fields":
            found = (self.fields or {}).get(target.name)
        elif target.section in ("views", "encoders"):
            known = self.outputs_of(target.owner)
            if known is None:
                return None
            name = target.output or self.main_output(target.section, target.owner, known)
            found = known.get(name or "")
            if found is None and known and (name is None or self._tap(target)):
                found = next(iter(known.values())).with_(modality="unknown", size=())
        elif target.section == "memories":
            return self._memory_type(target)
        else:
            return None
        if found is not None and target.index is not None and len(found.axes) > 1:
            found = found.with_(axes=(found.axes[0], *found.axes[2:]), groups=found.groups[1:])
        return found

    def _memory_type(self, target: Target) -> TensorType | None:
        column = self.targets(target.owner).get(f"of.{target.output or 'value'}")
        found = self.type_of(column) if column is not None else None
        return found.with_(axes=(target.name, *found.axes[1:])) if found is not None else None

    def outputs_of(self, owner: str) -> Mapping[str, TensorType] | None:
        """Names and declared types of what an encoder or a view gives; None where that cannot be known."""
        if owner in self._outputs:
            return self._outputs[owner]
        if owner in self._open:
            return None
        self._open.append(owner)
        made = self.component(owner)
        found: Mapping[str, TensorType] | None = None
        if isinstance(made, View):
            found = self._view_outputs(owner, made)
        elif isinstance(made, Encoder):
            found = self._encoder_outputs(owner, made)
        self._open.pop()
        self._outputs[owner] = found
        return found

    def _view_outputs(self, owner: str, view: View) -> Mapping[str, TensorType] | None:
        targets = self.targets(owner)
        found: dict[str, TensorType] = {}
        for index, name in enumerate(view.of):
            target = targets.get(f"of.{index}")
            declared = self.type_of(target) if target is not None else None
            if declared is None:
                return None
            for transform in view.apply:
                declared = transform.result(declared)
            found[str(name).rpartition(".")[2]] = declared
        for transform in view.apply:
            found.update(type(transform).adds)
        if view.copies > 1:
            for name, declared in found.items():
                axes = (declared.axes[0], "copy", *declared.axes[1:])
                found[name] = declared.with_(axes=axes, groups=(view.copies, *declared.groups))
        return found

    def structure(self, owner: str) -> tuple[str, Encoder] | None:
        """The encoder whose `build` stands behind an application of weights; itself otherwise."""
        seen: list[str] = []
        while owner not in seen:
            seen.append(owner)
            made = self.component(owner)
            if not isinstance(made, Encoder):
                return None
            if "weights" not in type(made).model_fields:
                return owner, made
            target = self.targets(owner).get("weights")
            if target is None or target.section not in ("encoders", "parts"):
                return None
            owner = target.owner
        return None

    def inputs(self, owner: str) -> dict[str, Target]:
        """The targets of `of`; an application of weights without `of` reads what its structure reads."""
        for _ in range(64):
            made = self.component(owner)
            found = {path: t for path, t in self.targets(owner).items() if path.partition(".")[0] == "of"}
            if not isinstance(made, Encoder) or made.of or "weights" not in type(made).model_fields:
                return found
            target = self.targets(owner).get("weights")
            if target is None:
                return found
            owner = target.owner
        return {}

    def _encoder_outputs(self, owner: str, made: Encoder) -> Mapping[str, TensorType] | None:
        behind = self.structure(owner)
        entry = self.entry(owner)
        if behind is None or entry is None:
            return None
        base = behind[1]
        if not base.of and not made.of and owner.startswith("encoders."):
            return None
        targets = list(self.inputs(owner).values())
        given = [self.type_of(target) for target in targets]
        inputs = [declared for declared in given if declared is not None]
        expected = len(made.of or base.of)
        if len(inputs) < len(given) or len(given) < expected:
            return None
        row = base.scope() == "row" and bool(inputs)
        groups = (inputs[0].axes[1:], inputs[0].groups) if inputs else ((), ())
        if row and not base.axes:
            inputs = [one.with_(axes=one.axes[:1], groups=()) for one in inputs]
        try:
            found = dict(base.outputs(*inputs))
            if base.head is not None and "pooled" in found:
                found["features"] = found["pooled"]
                found["pooled"] = base.head.outputs(found["pooled"])["pooled"]
            if base.tokens is not None and "tokens" in found:
                tokens = found["tokens"]
                vector = tokens.with_(modality="vector", size=tokens.size[-1:])
                size = base.tokens.outputs(vector)["pooled"].size
                found["tokens"] = tokens.with_(size=(*tokens.size[:-1], *size[-1:]))
        except Exception as error:  # a declaration of a plugin may raise anything
            if owner == behind[0]:
                self.report(entry, (), entry.problem(f"{made.use} does not fit its inputs: {error}"))
            return None
        if row and not base.axes and groups[0]:
            for name, declared in found.items():
                axes = (declared.axes[0], *groups[0], *declared.axes[1:])
                found[name] = declared.with_(axes=axes, groups=(*groups[1], *declared.groups))
        return found

    # ---- order

    def needs(self, owner: str) -> tuple[list[str], list[str]]:
        """What must come before an entry, and what it needs without an order (a memory's old state)."""
        before: list[str] = []
        beside: list[str] = []
        targets = [*self.targets(owner).values()]
        if owner.startswith("encoders."):
            targets += self.inputs(owner).values()
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

    # ---- checks of one entry beyond its references

    def check(self, owner: str) -> None:
        """Report what is wrong with the inputs of an entry: number, modality, axes, outputs and abilities."""
        entry = self.entry(owner)
        made = entry.component if entry is not None else None
        targets = self.targets(owner)
        if entry is None or made is None or any(key[0] == entry.path for key in self.problems):
            return
        if isinstance(made, View):
            self.outputs_of(owner)
            return
        if isinstance(made, Encoder | Loss | Memory) and not self._check_count(entry, made, targets):
            return
        if isinstance(made, Evaluator):
            self._check_count(entry, made, targets)
        if isinstance(made, Encoder):
            self._check_modalities(entry, owner, made)
            self.outputs_of(owner)
        if isinstance(made, Loss | Memory) or (isinstance(made, Evaluator) and hasattr(made, "axes")):
            self._check_axes(entry, made, targets)
        self._check_needs(entry, made, targets)

    def _check_count(self, entry: Entry, made: Any, targets: Mapping[str, Target]) -> bool:
        count = len(made.of)
        if not targets and entry.section in ("encoders", "losses") and "weights" not in type(made).model_fields:
            entry_problem = entry.problem(
                f"{made.kind} {made.use} needs `of`", hint="write of: NAME, or of: [ONE, OTHER]"
            )
            self.report(entry, (), entry_problem)
            return False
        function = getattr(type(made), type(made).method, None) if type(made).method else None
        if function is None or not count or (isinstance(made, Encoder) and made.has_weights):
            return True
        parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            return True
        fields = type(made).model_fields
        inputs = [p for p in parameters if p.name not in fields and p.name not in ON_REQUEST]
        if isinstance(made, Memory):
            return True
        least = sum(p.default is p.empty for p in inputs)
        if least <= count <= len(inputs):
            return True
        names = ", ".join(p.name for p in inputs)
        number = f"{least} to {len(inputs)}" if least < len(inputs) else str(least)
        inputs_word = "input" if number == "1" else "inputs"
        problem = entry.problem(
            f"{made.kind} {made.use} takes {number} {inputs_word} ({names})", ("of",), found=f"{count} in `of`"
        )
        self.report(entry, ("of",), problem)
        return False

    def _check_modalities(self, entry: Entry, owner: str, made: Encoder) -> None:
        behind = self.structure(owner)
        if behind is None or not behind[1].accepts or (behind[0] != owner and not made.of):
            return
        accepts = behind[1].accepts
        for index, (path, target) in enumerate(self.inputs(owner).items()):
            declared = self.type_of(target)
            if index >= len(accepts):
                many = f"{behind[1].use} takes {len(accepts)} input{'s' if len(accepts) > 1 else ''}"
                self.report(entry, ("of",), entry.problem(many, ("of",), found=f"{len(self.inputs(owner))} in `of`"))
                return
            if declared is None or declared.modality == "unknown" or declared.modality in accepts[index]:
                continue
            name = _name_of(target)
            where = ("of", index) if path.startswith("of.") else ("of",)
            others = [n for n, t in (self.fields or {}).items() if t.modality in accepts[index]]
            problem = entry.problem(
                f"{behind[1].use} cannot read `{name}`",
                _written(entry, where),
                found=declared.modality,
                expected=" or ".join(accepts[index]),
                hint=did_you_mean(name, others, most=6),
            )
            self.report(entry, where, problem)

    def _check_axes(self, entry: Entry, made: Any, targets: Mapping[str, Target]) -> None:
        known = getattr(type(made), "axes", ())
        rows: dict[str, str] = {}
        for path, target in targets.items():
            if path.partition(".")[0] != "of" or target.section not in ("encoders", "views", "fields"):
                continue
            declared = self.type_of(target)
            if declared is None:
                continue
            where: Path = tuple(int(part) if part.isdigit() else part for part in path.split("."))
            name = _name_of(target)
            for axis, size in zip(declared.axes[1:], [*declared.groups, *([None] * 8)], strict=False):
                if axis in known:
                    continue
                what = {"copy": "copies"}.get(axis, f"of the axis {axis}")
                count = f"{size} {what}" if size is not None else f"the axis {axis}"
                hint = f"write {name}.0, or use a {made.kind} that takes the axis {axis}"
                problem = entry.problem(
                    f"{name} has {count}, which {made.use} does not take", _written(entry, where), hint=hint
                )
                self.report(entry, where, problem)
                break
            rows.setdefault(declared.axes[0] if declared.axes else "", name)
        if len(rows) > 1 and not set(rows) & set(known) and isinstance(made, Loss | Memory):
            said = " and ".join(f"{name} of {axis}" for axis, name in rows.items())
            self.report(
                entry, ("of",), entry.problem(f"{made.use} compares rows: {said}", ("of",), hint="use one row axis")
            )

    def _check_needs(self, entry: Entry, made: Any, targets: Mapping[str, Target]) -> None:
        readers: list[tuple[Path, Any]] = [((), made)] if getattr(made, "needs", ()) else []
        for name, info in type(made).model_fields.items():
            value = getattr(made, name)
            if isinstance(value, Shared):
                target = targets.get(name)
                value = self.component(target.owner) if target is not None and target.output is None else None
            if isinstance(value, Score):
                readers.append(((info.alias or name,), value))
        for path, reader in readers:
            for place, target in targets.items():
                if place.partition(".")[0] != "of" or target.section != "encoders" or target.output is not None:
                    continue
                known, behind = self.outputs_of(target.owner), self.structure(target.owner)
                if known is None or behind is None:
                    continue
                abilities = {*known, *behind[1].provides, *behind[1].taps()}
                absent = [need for need in reader.needs if need not in abilities]
                if absent:
                    problem = entry.problem(
                        f"{reader.kind} {reader.use} needs {' and '.join(absent)} of {target.name}",
                        path,
                        found=f"{behind[1].use}, which gives {', '.join(known)}",
                        hint=self._who_gives(absent[0]),
                    )
                    self.report(entry, path, problem)
                    break

    def _who_gives(self, need: str) -> str | None:
        names = [name for name in self.entries["encoders"] if need in (self.outputs_of(f"encoders.{name}") or ())]
        return f"{', '.join(names[:4])} {'gives' if len(names) == 1 else 'give'} it" if names else None


def _written(entry: Entry, path: Path) -> Path:
    """The path as written: `of: image` stands for a list of one, a memory's for a mapping of one."""
    return path if entry.node.at(path) is not None or not path else path[:-1]


def _without(text: str, part: int) -> str:
    parts = text.split(".")
    return ".".join(parts[:part] + parts[part + 1 :])


def _name_of(target: Target) -> str:
    index = [] if target.index is None else [str(target.index)]
    return ".".join([target.name, *index, *([target.output] if target.output else [])])


def _fits(wanted: tuple[type[RefType], ...], target: Target, declared: TensorType | None) -> bool:
    return any(_fit(kind, target, declared) for kind in wanted if target.section in _FROM[kind])


def _fit(kind: type[RefType], target: Target, declared: TensorType | None) -> bool:
    if kind is Encoded:
        return target.output is None
    if declared is None or kind in (RawField, Parameters) or declared.modality == "unknown":
        return True
    modality, whole = declared.modality, declared.dtype.startswith(("int", "uint", "bool"))
    if kind is Pooled:
        return modality not in (("tokens", "grid", "index") if target.section == "encoders" else _RAW)
    if kind is TokenSequence:
        return modality not in ("vector", "grid", *_RAW)
    if kind is Grid:
        return modality == "grid"
    if kind in (Labels, Index):
        return modality in _WHOLE_NUMBERS or whole
    return modality not in _RAW
