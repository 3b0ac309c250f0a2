"""The words after the first of a reference: a member, an output, a column, a field, another stage's encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from pydantic import BaseModel

from mmflow.plugin.component import Component, Shared, with_article
from mmflow.plugin.kinds import Memory, Stage
from mmflow.plugin.references import Encoded, Grid, Parameters, RefType, TokenSequence, Written
from mmflow.plugin.targets import Owner, Target
from mmflow.plugin.values import TensorType
from mmflow.spec.components.classes import VALUES, field_of
from mmflow.spec.references.names import INIT, NODES, SAMPLER, SINGULAR, BadReference, Seen, expected_of
from mmflow.spec.references.types import Types, main_output
from mmflow.spec.references.wanted import GIVEN_BY, LEADS_TO, fits, fits_output, is_kept
from mmflow.spec.text.problems import did_you_mean

Words = tuple[str, ...]

OUTPUT_SAYS: Mapping[str, str] = {
    "Column": "a stage's column",
    "Static": "a stage's static output",
    "Data": "data made by a stage",
    "Files": "a stage's files",
    "Metrics": "a stage's metrics",
    "Model": "a stage's model",
}


class Endings:
    """Reads the words behind an entry's name, and holds them against the types that are wanted."""

    def __init__(self, seen: Seen, types: Types, other: Callable[[str], Endings | None]) -> None:
        self.seen, self.types, self.other = seen, types, other

    def field(self, words: Words) -> tuple[str, Words] | None:
        """The longest field name (a static field's has dots) that the words begin with, and the rest."""
        for length in range(len(words), 0, -1):
            name = ".".join(words[:length])
            if self.types.fields is not None and name in self.types.fields:
                return name, words[length:]
        return None

    def of_node(self, section: str, text: str, words: Words, wanted: tuple[type[RefType], ...]) -> Target:
        """An encoder, view or field: `[index] [output] [detach]`."""
        name, rest = words[0], words[1:]
        if section == "fields":
            name, rest = self.field(words) or (name, rest)
            stream, _, added = name.partition(f".{SAMPLER}.")
            if added and not rest:
                return Target(SAMPLER, f"{stream}.{added}")
        detach = rest[-1:] == ("detach",)
        rest = rest[: len(rest) - detach]
        if rest[-1:] == ("after",):
            raise BadReference(f"`{text}`: only a memory has a state after the step", hint=f"write {name}")
        index = int(rest[0][:9]) if rest and rest[0].isascii() and rest[0].isdigit() else None
        output = ".".join(rest[index is not None :]) or None
        target = Target(section, name, index, output, detach)
        known = self.types.outputs_of(target.owner) if section != "fields" else {"": (self.types.fields or {})[name]}
        if known is None:
            return target
        main = main_output(section, known)
        chosen = output if output is not None else main
        kind = SINGULAR[section]
        if chosen is None or (chosen not in known and not self.types.is_tap(target)):
            self._no_output(text, target, known, wanted)
        declared = known.get(chosen) if chosen is not None else None
        if index is not None and declared is not None:
            if len(declared.axes) < 2:
                raise BadReference(
                    f"`{text}`: {name} is {kind} without copies or other groups",
                    hint=f"write {replace(target, index=None)}{'.detach' if detach else ''}",
                )
            size = declared.groups[0] if declared.groups else None
            if size is not None and index >= size:
                last = f"{name}.{size - 1}"
                raise BadReference(
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
            raise BadReference(
                f"`{text}` has no pooled vector", hint=f"write {' or '.join(f'{target.name}.{n}' for n in names)}"
            )
        if target.section == "encoders":
            structure = self.types.structure(target.owner)
            names += structure.encoder.taps() if structure is not None else ()
        what = SINGULAR[target.section]
        hint = did_you_mean(target.output, names, otherwise=f"write {target.name}", most=20)
        raise BadReference(f"`{text}`: {target.name} is {what} without `{target.output}`", hint=hint)

    def _misfit(
        self, text: str, target: Target, declared: TensorType | None, known: Mapping[str, TensorType],
        wanted: tuple[type[RefType], ...],
    ) -> None:  # fmt: skip
        expected = expected_of(wanted)
        found = f"`{text}`, {SINGULAR[target.section]}"
        if declared is not None:
            found += f" of {declared.modality}"
        hint = None
        if Encoded in wanted and target.output is not None and target.section == "encoders":
            hint = f"it takes the whole encoding: write {target.name}"
        for kind, name in ((TokenSequence, "tokens"), (Grid, "grid")):
            if kind in wanted and target.output is None and name in known:
                hint = f"write {text}.{name}"
        if hint is None and target.section != "encoders" and "encoders" in {s for t in wanted for s in LEADS_TO[t]}:
            names = list(self._that_fit(wanted)) or list(self.seen.entries["encoders"])
            hint = did_you_mean(target.name, names, otherwise="encode it first", most=6)
        raise BadReference("", found=found, expected=expected, hint=hint)

    def _that_fit(self, wanted: tuple[type[RefType], ...]) -> Iterator[str]:
        """Bare names of fields and encoders that lead to what is wanted."""
        for name, declared in (self.types.fields or {}).items():
            if fits(wanted, Target("fields", name), declared):
                yield name
        for name in self.seen.entries["encoders"]:
            known = self.types.outputs_of(Owner("encoders", name)) or {}
            main = main_output("encoders", known)
            if main is not None and fits(wanted, Target("encoders", name), known[main]):
                yield name

    def of_memory(self, text: str, name: str, rest: Words) -> Target:
        """A memory: `[column] [after]`."""
        after = "after" in rest
        column = ".".join(word for word in rest if word != "after") or None
        memory = self.types.component(Owner("memories", name))
        if isinstance(memory, Memory):
            columns = list(memory.of)
            beside = self.types.columns_of(Owner("memories", name), memory) if column not in (None, *columns) else {}
            if column in beside:
                return Target("memories", name, output=column, after=after)
            if column is None and columns == ["value"]:
                return Target("memories", name, after=after)
            if column is None and len(columns) == 1:
                column = columns[0]
            if column is None:
                choices = " or ".join(f"{name}.{c}" for c in columns)
                raise BadReference(f"`{text}` has several columns", hint=f"write {choices}")
            if column not in columns:
                known = [c for c in (*columns, *beside) if c != "value"]
                hint = did_you_mean(column, known, otherwise=f"write {name}")
                raise BadReference(f"`{text}`: the memory {name} has no column `{column}`", hint=hint)
        return Target("memories", name, output=column, after=after)

    def of_sampler(self, words: Words) -> Target:
        """A field that the stage's sampler adds."""
        text, name = ".".join(words), ".".join(words[1:])
        fields = self.types.sampler_fields()
        if fields is not None and name not in fields:
            made = self.seen.stage.component if self.seen.stage is not None else None
            sampler = made.order() if isinstance(made, Stage) else None
            if sampler is None:
                raise BadReference(f"`{text}`: this stage has no sampler", hint="a train stage has one")
            hint = did_you_mean(
                name, fields, otherwise="it adds none; `episodes` adds label, support and query", most=20
            )
            raise BadReference(f"`{text}`: the sampler {sampler.use} adds no field `{name}`", hint=hint)
        return Target("sampler", name)

    def of_stage(self, words: Words, own: Words, wanted: tuple[type[RefType], ...]) -> Target:
        """A stage, one of its outputs, or an encoder of its model; `own` are the words from its name on."""
        text, (name, rest) = ".".join(words), self.seen.cut(own)
        if name == INIT and name not in self.seen.stages.gives:
            gives: Mapping[str, str] | None = {"model": "Model"}
        else:
            gives = self.seen.stages.gives[name]
        if gives is None:
            return Target("stages", name, output=".".join(rest) or None)
        trained, inside = "Model" in gives.values(), self.seen.stages.encoders.get(name, ())
        nodes = {s for t in wanted for s in LEADS_TO[t] if s not in ("stages", "data")}
        if "encoders" in nodes and rest and trained and rest[0] in inside:
            there = self.other(name) or self
            return replace(there.of_node("encoders", ".".join(rest), rest, wanted), stage=name)
        said = ".".join(own[: len(own) - len(rest)])
        output = ".".join(rest) or main_of(gives)
        given = gives.get(output, gives.get("*", "")) if output is not None else ""
        target = Target(
            "stages", name, output=(output if given in (*VALUES, "Data") else None) or ".".join(rest) or None
        )
        declared = self.types.type_of(target) if given in VALUES else None
        if output in self.seen.stages.published.get(name, {}) and not is_kept(given, declared):
            hint = f"embed the data again: {{use: embed, model: {name}, ...}}"
            raise BadReference(f"`{text}`: vectors of a stage inside another are not stored", hint=hint)
        inner, here = self.seen.stages.inner.get(name), self.seen.stage
        if given and given not in VALUES and inner is not None and here is not None and here.name == inner.around:
            hint = "read a column or a static output of it, or let the stage be one of its own"
            raise BadReference("", found=f"`{text}`, {OUTPUT_SAYS[given]} that is made while it trains", hint=hint,
                               expected=expected_of(wanted))  # fmt: skip
        if given and fits_output(wanted, given, target, declared):
            return target
        expected, types = expected_of(wanted), {given for t in wanted for given in GIVEN_BY.get(t, ())}
        if given:
            of = f" of {declared.modality}" if declared is not None and declared.modality != "unknown" else ""
            others = [f"{said}.{o}" for o, other in gives.items() if other in types and o not in (output, "*")]
            hint = f"write {' or '.join(others)}" if others else self._stages_that_give(types, nodes)
            raise BadReference("", found=f"`{text}`, {OUTPUT_SAYS[given]}{of}", expected=expected, hint=hint)
        known = [
            *(sorted(inside) if "encoders" in nodes and trained else ()),
            *(given for given in gives if given != "*"),
        ]
        hint = did_you_mean(rest[0] if rest else "", known, otherwise="it gives nothing", most=20)
        raise BadReference(f"the stage {said} gives no `{'.'.join(rest)}`", expected=expected, hint=hint)

    def _stages_that_give(self, types: set[str], nodes: set[str]) -> str | None:
        if nodes:
            return None
        known, inner = self.seen.stages.gives.items(), self.seen.stages.inner
        names = [name for name, gives in known if name not in inner and types & set((gives or {}).values())]
        return f"such as {', '.join(names[:4])}" if names else None

    def shared(self, words: Words, kind: str) -> Target:
        """A dotted path in a component field: that very component."""
        section, text = words[0], ".".join(words)
        if section not in NODES:
            hint = did_you_mean(section, NODES, otherwise="begin with the section: parts.NAME or losses.NAME.FIELD")
            raise BadReference(f"`{text}` is no path to {with_article(kind)}", hint=hint)
        name = words[1]
        if name not in self.seen.entries[section]:
            names = list(self.seen.entries[section])
            hint = did_you_mean(name, names, otherwise=f"the section `{section}` is empty", most=20)
            raise BadReference(f"there is no `{name}` in `{section}`", hint=hint)
        made, field = self._at(words, kind)
        passed = {words}
        while isinstance(made, Shared):
            # a path to a field that is itself a path
            if made.words in passed:
                raise BadReference(f"`{text}` leads back to itself", hint="write the component in one of the places")
            passed.add(made.words)
            made, _ = self._at(made.words, kind) if made.words[0] in NODES else (None, ())
        if made is not None and getattr(made, "kind", None) != kind:
            found = with_article(made.kind) if isinstance(made, Component) else "no component"
            raise BadReference(f"`{text}`", found=found, expected=with_article(kind))
        return Target(section, name, field=field)

    def _at(self, words: Words, kind: str) -> tuple[Written, Words]:
        """The value at a path of an entry's fields (None where the entry is invalid), and the fields' own names."""
        section, name, *fields = words
        made = self.types.component(Owner(section, name))
        if made is None:
            return None, words[2:]
        value: Written = made
        attributes: list[str] = []
        for field in fields:
            attribute = field_of(type(value), field) if isinstance(value, BaseModel) else None
            if attribute is None:
                if kind == "value":
                    known = type(value).model_fields if isinstance(value, BaseModel) else ()
                    near = did_you_mean(field, known, otherwise="name a field that holds a number")
                    raise BadReference(f"`{'.'.join(words)}`: {section}.{name} has no field `{field}`", hint=near)
                raise BadReference(f"`{'.'.join(words)}` is no {kind}", hint=f"write {section}.{name}")
            value = getattr(value, attribute)
            attributes.append(attribute)
        return "no component" if value is None else value, tuple(attributes)


def main_of(gives: Mapping[str, str]) -> str | None:
    """The output that a stage's bare name means: the first; None where any name is one."""
    return next((given for given in gives if given != "*"), None)
