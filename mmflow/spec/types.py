"""The declared types behind references: what views and encoders give, worked out without any tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mmflow.plugin.kinds import Encoder, View
from mmflow.plugin.modality import check_modalities
from mmflow.plugin.values import TensorType
from mmflow.spec.target import Target

if TYPE_CHECKING:
    from mmflow.spec.resolve import Resolver


class Types:
    """Outputs of the entries that a resolver sees, each worked out once. None stands for what cannot be known."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self._outputs: dict[str, Mapping[str, TensorType] | None] = {}
        self._open: list[str] = []

    def main_output(self, section: str, owner: str, known: Mapping[str, TensorType]) -> str | None:
        """The output that a bare name means: `pooled` of an encoder, the first field of a view."""
        if section == "encoders":
            return "pooled" if "pooled" in known else None
        return next(iter(known), None)

    def type_of(self, target: Target) -> TensorType | None:
        """The declared type behind a target; None where it is unknown."""
        if target.stage is not None:
            there = self._there(target)
            return there.type_of(replace(target, stage=None)) if there is not None else None
        if target.section == "sampler":
            found = (self.resolver.sampler_fields() or {}).get(target.name)
        elif target.section == "fields":
            found = (self.resolver.fields or {}).get(target.name)
        elif target.section in ("views", "encoders"):
            known = self.outputs_of(target.owner)
            if known is None:
                return None
            name = target.output or self.main_output(target.section, target.owner, known)
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

    def _there(self, target: Target) -> Types | None:
        """The types of the stage that a target is taken from; its own where that is this one."""
        other = self.resolver.others.get(target.stage or "")
        return other.types if other is not None and other is not self.resolver else None

    def _memory_type(self, target: Target) -> TensorType | None:
        column = self.resolver.targets(target.owner).get(f"of.{target.output or 'value'}")
        found = self.type_of(column) if column is not None else None
        return found.with_(axes=(target.name, *found.axes[1:])) if found is not None else None

    def outputs_of(self, owner: str) -> Mapping[str, TensorType] | None:
        """Names and declared types of what an encoder or a view gives; None where that cannot be known."""
        if owner in self._outputs:
            return self._outputs[owner]
        if owner in self._open:
            return None
        self._open.append(owner)
        made = self.resolver.component(owner)
        found: Mapping[str, TensorType] | None = None
        if isinstance(made, View):
            found = self._view_outputs(owner, made)
        elif isinstance(made, Encoder):
            found = self._encoder_outputs(owner, made)
        self._open.pop()
        self._outputs[owner] = found
        return found

    def _view_outputs(self, owner: str, view: View) -> Mapping[str, TensorType] | None:
        targets = self.resolver.targets(owner)
        found = [targets.get(f"of.{index}") for index in range(len(view.of))]
        inputs = [self.type_of(target) for target in found if target is not None]
        known = [declared for declared in inputs if declared is not None]
        if len(known) < len(view.of):
            return None
        try:
            outputs = view.outputs(*known)
            check_modalities(outputs)
            return outputs
        except Exception as error:  # a declaration of a plugin may raise anything
            entry = self.resolver.entry(owner)
            assert entry is not None
            hint = getattr(error, "hint", "") or None
            self.resolver.report(entry, (), entry.problem(f"the view does not fit its inputs: {error}", hint=hint))
            return None

    def structure(self, owner: str) -> tuple[str, Encoder] | None:
        """The encoder whose `build` stands behind an application of weights; itself otherwise."""
        seen: list[str] = []
        while owner not in seen:
            seen.append(owner)
            made = self.resolver.component(owner)
            if not isinstance(made, Encoder):
                return None
            if "weights" not in type(made).model_fields:
                return owner, made
            target = self.resolver.targets(owner).get("weights")
            if target is None or target.section not in ("encoders", "parts"):
                return None
            if target.stage is not None:
                there = self._there(target)
                return there.structure(target.owner) if there is not None else None
            owner = target.owner
        return None

    def inputs(self, owner: str) -> dict[str, Target]:
        """The targets of `of`; an application of weights without `of` reads what its structure reads."""
        for _ in range(64):
            made = self.resolver.component(owner)
            found = {path: t for path, t in self.resolver.targets(owner).items() if path.partition(".")[0] == "of"}
            if not isinstance(made, Encoder) or made.of or "weights" not in type(made).model_fields:
                return found
            target = self.resolver.targets(owner).get("weights")
            if target is None:
                return found
            if target.stage is not None:
                there = self._there(target)
                return there.inputs(target.owner) if there is not None else found
            owner = target.owner
        return {}

    def _encoder_outputs(self, owner: str, made: Encoder) -> Mapping[str, TensorType] | None:
        behind = self.structure(owner)
        entry = self.resolver.entry(owner)
        if behind is None or entry is None:
            return None
        base = behind[1]
        weights = self.resolver.targets(owner).get("weights")
        if not made.of and weights is not None and weights.stage is not None:
            there = self._there(weights)
            return there.outputs_of(weights.owner) if there is not None else None
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
            check_modalities(found)
        except Exception as error:  # a declaration of a plugin may raise anything
            if owner == behind[0]:
                self.resolver.report(entry, (), entry.problem(f"{made.use} does not fit its inputs: {error}"))
            return None
        if row and not base.axes and groups[0]:
            for name, declared in found.items():
                axes = (declared.axes[0], *groups[0], *declared.axes[1:])
                found[name] = declared.with_(axes=axes, groups=(*groups[1], *declared.groups))
        return found

    def is_tap(self, target: Target) -> bool:
        """Whether a target is an output that an encoder gives only when asked."""
        if target.section != "encoders" or target.output is None:
            return False
        structure = self.structure(target.owner)
        return structure is not None and target.output in structure[1].taps()
