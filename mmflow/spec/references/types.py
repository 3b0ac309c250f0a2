"""The declared types behind references: what views and encoders give, worked out without any tensor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mmflow.plugin.kinds import Encoder, Memory, View
from mmflow.plugin.modality import check_modalities
from mmflow.plugin.targets import Owner, Target
from mmflow.plugin.values import TensorType
from mmflow.spec.references.wiring import Wiring

Fields = Mapping[str, TensorType] | None
"""Declared fields; None where they are not known."""


class Types(Wiring):
    """A wiring with the outputs of its entries, each worked out once. None stands for a type that is not known."""

    def __init__(self, fields: Fields | Callable[[], Fields]) -> None:
        self._fields = fields
        self._outputs: dict[Owner, Mapping[str, TensorType] | None] = {}
        self._open: list[Owner] = []

    @property
    def fields(self) -> Fields:
        """The fields of the stage's data, those that join it included; None where they are not known."""
        if callable(self._fields):
            # Types of stages that read each other end here; the circle is told elsewhere.
            read, self._fields = self._fields, None
            self._fields = read()
        return self._fields

    @abstractmethod
    def other(self, stage: str) -> Types | None: ...

    def given(self) -> Mapping[str, TensorType | Mapping[str, TensorType]]:
        """The declared types of the stage's outputs: of a value, or of the fields of data."""
        return {}

    @abstractmethod
    def sampler_fields(self) -> Mapping[str, TensorType] | None:
        """The fields that the stage's sampler adds to the samples that it draws; None where it is not known."""

    @abstractmethod
    def refused(self, owner: Owner, message: str, hint: str | None = None) -> None:
        """Report an entry whose declaration does not take its inputs."""

    def type_of(self, target: Target) -> TensorType | None:
        """The declared type behind a target; None where it is unknown."""
        if target.stage is not None:
            there = self.other(target.stage)
            return there.type_of(replace(target, stage=None)) if there is not None and there is not self else None
        if target.section == "sampler":
            found = (self.sampler_fields() or {}).get(target.name)
        elif target.section == "fields":
            found = (self.fields or {}).get(target.name)
        elif target.section == "stages":
            # Models have no type, and asking for that of a stage around would go round.
            there = self.other(target.name) if target.output is not None else None
            made = there.given().get(target.output or "") if there is not None else None
            found = made if isinstance(made, TensorType) else None
        elif target.section in ("views", "encoders"):
            known = self.outputs_of(target.owner)
            if known is None:
                return None
            name = target.output or main_output(target.section, known)
            found = known.get(name or "")
            if found is None and known and (name is None or self.is_tap(target)):
                found = next(iter(known.values())).with_(modality="unknown", size=())
        elif target.section == "memories":
            return self._memory_type(target)
        else:
            return None
        if found is not None and target.index is not None and len(found.axes) > 1:
            found = found.member()
        return found

    def _memory_type(self, target: Target) -> TensorType | None:
        column = self.targets(target.owner).get(("of", target.output or "value"))
        found = self.type_of(column) if column is not None else None
        memory = self.component(target.owner)
        if column is None and isinstance(memory, Memory):
            found = self.columns_of(target.owner, memory).get(target.output or "")
        if found is None:
            return None
        if found.modality == "id":
            # Ids are stored as numbers.
            found = found.with_(modality="number", dtype="int64")
        return found.with_(axes=(target.name, *found.axes[1:]))

    def columns_of(self, owner: Owner, memory: Memory) -> Mapping[str, TensorType]:
        """The columns of a memory beside those that it is given, as far as the types of these are known."""
        targets = {str(place[1]): target for place, target in self.targets(owner).items() if place[0] == "of"}
        known = {name: self.type_of(target) for name, target in targets.items()}
        return memory.gives({name: found or TensorType("unknown") for name, found in known.items()})

    def outputs_of(self, owner: Owner) -> Mapping[str, TensorType] | None:
        """Names and declared types of the outputs of an encoder or a view; None where they cannot be known."""
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

    def _view_outputs(self, owner: Owner, view: View) -> Mapping[str, TensorType] | None:
        targets = self.targets(owner)
        found = [targets.get(("of", index)) for index in range(len(view.of))]
        inputs = [self.type_of(target) for target in found if target is not None]
        known = [declared for declared in inputs if declared is not None]
        if len(known) < len(view.of):
            return None
        try:
            outputs = view.outputs(*known)
            check_modalities(outputs)
            return outputs
        except Exception as error:  # a declaration of a plugin may raise anything
            self.refused(owner, f"the view does not fit its inputs: {error}", getattr(error, "hint", "") or None)
            return None

    def _encoder_outputs(self, owner: Owner, made: Encoder) -> Mapping[str, TensorType] | None:
        behind = self.structure(owner)
        if behind is None:
            return None
        base = behind.encoder
        if not base.of and not made.of and owner.section == "encoders":
            return None
        targets = list(self.inputs(owner).values())
        given = [self.type_of(target) for target in targets]
        inputs = [declared for declared in given if declared is not None]
        expected = len(made.of or base.of)
        if len(inputs) < len(given) or len(given) < expected:
            return None
        inputs = self._gathered(owner, inputs)
        row = base.scope() == "row" and bool(inputs)
        groups = (inputs[0].axes[1:], inputs[0].groups) if inputs else ((), ())
        if row and not base.axes:
            inputs = [one.with_(axes=one.axes[:1], groups=()) for one in inputs]
        try:
            found = dict(base.outputs(*inputs))
            for part, projection, output in (("head", base.head, "pooled"), ("tokens", base.tokens, "tokens")):
                if projection is not None and output not in found:
                    raise ValueError(f"it has no output `{output}` for its {part} to project")
            if base.head is not None and "pooled" in found:
                found["features"] = found["pooled"]
                found["pooled"] = base.head.outputs(found["pooled"])["pooled"]
            if base.tokens is not None and "tokens" in found:
                tokens = found["tokens"]
                vector = tokens.with_(modality="vector", size=tokens.size[-1:])
                size = base.tokens.outputs(vector)["pooled"].size
                found["tokens"] = tokens.with_(size=(*tokens.size[:-1], *size[-1:]))
            check_modalities(found)
            found |= self._emitted(owner, found, inputs)
        except Exception as error:  # a declaration of a plugin may raise anything
            if made is base:
                self.refused(owner, f"{made.use} does not fit its inputs: {error}", getattr(error, "hint", "") or None)
            return None
        if row and not base.axes and groups[0]:
            for name, declared in found.items():
                axes = (declared.axes[0], *groups[0], *declared.axes[1:])
                found[name] = declared.with_(axes=axes, groups=(*groups[1], *declared.groups))
        return found

    def _emitted(
        self, owner: Owner, outputs: Mapping[str, TensorType], inputs: Sequence[TensorType]
    ) -> dict[str, TensorType]:
        """The types of what an encoder and its head emit: a number for each row of the first input."""
        names = (*self.emits(owner), *self.emits(owner._replace(part="head")))
        for number, name in enumerate(names):
            if name in outputs or name in names[:number]:
                raise ValueError(f"it emits {name!r}, and has an output of that name")
        axes = inputs[0].axes[:1] if inputs else ("sample",)
        return {name: TensorType("number", axes) for name in names}

    def _gathered(self, owner: Owner, inputs: list[TensorType]) -> list[TensorType]:
        """The inputs with the row axis of the indices by which an encoder gathers their rows."""
        indices = [self.type_of(target) for target in self.gathered(owner).values()]
        axes = [index.axes[0] for index in indices if index is not None and index.axes]
        return [one.with_(axes=(axes[0], *one.axes[1:])) for one in inputs] if axes else inputs

    def is_tap(self, target: Target) -> bool:
        """Whether a target is an output that an encoder gives only when asked."""
        if target.section != "encoders" or target.output is None:
            return False
        structure = self.structure(target.owner)
        return structure is not None and target.output in structure.encoder.taps()


def main_output(section: str, known: Mapping[str, TensorType]) -> str | None:
    """The output that a bare name means: `pooled` of an encoder, the first field of a view."""
    if section == "encoders":
        return "pooled" if "pooled" in known else None
    return next(iter(known), None)
