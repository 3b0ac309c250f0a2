"""`Spec`, a checked spec, and `Scope`, what one of its stages sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.kinds import Encoder, Loss, Memory, Source, Stage, Tracker, View
from mmflow.plugin.values import TensorType
from mmflow.spec.document import Document
from mmflow.spec.entry import Entry
from mmflow.spec.explain import resolved_data
from mmflow.spec.resolve import Resolver
from mmflow.spec.target import Target
from mmflow.spec.yaml_writer import write_yaml


@dataclass(frozen=True, eq=False)
class Scope:
    """What one stage sees: the global sections merged with its own, its data, its model and its references."""

    stage: str
    declaration: Stage
    views: Mapping[str, View]
    encoders: Mapping[str, Encoder]
    memories: Mapping[str, Memory]
    losses: Mapping[str, Loss]
    """Those that the stage minimizes; for a stage that trains nothing, those that it refers to."""
    parts: Mapping[str, Component]
    data_name: str | None
    source: Source | None
    fields: Mapping[str, TensorType]
    start: str | None
    """Of a train stage: the stage whose model it begins with; None: an untrained one."""
    model: str | None
    """Of other stages: the stage whose model they use; None: an untrained one."""
    preparation_data: str | None
    """The entry of data that encoders learn their preprocessing from."""
    resolver: Resolver = field(repr=False)

    def targets(self, owner: str) -> Mapping[str, Target]:
        """Every reference inside an entry (`encoders.image`, or `stage`), by field path: `of.0`, `labels`, `score`."""
        return self.resolver.targets(owner)

    def type_of(self, target: Target) -> TensorType:
        """The declared type behind a target; raises `ComponentError` where it has none (a stage's output)."""
        found = self.resolver.types.type_of(target)
        if found is None:
            raise ComponentError(f"{target.owner} has no declared type", found=target.owner)
        return found

    def outputs(self, encoder: str) -> Mapping[str, TensorType]:
        """All declared outputs of an encoder or a view, by name (`encoders.image`, `views.two`)."""
        return self.resolver.types.outputs_of(encoder) or {}

    def reach(self, *owners: str) -> tuple[str, ...]:
        """All that the owners need, themselves included, each after what must come before it."""
        return self.resolver.reach(*owners)


@dataclass(frozen=True)
class Spec:
    """A checked spec. Two are equal where everything that they declare is."""

    name: str
    seed: int
    report: Mapping[str, Any]
    track: Mapping[str, Tracker]
    data: Mapping[str, Source]
    views: Mapping[str, View]
    encoders: Mapping[str, Encoder]
    memories: Mapping[str, Memory]
    losses: Mapping[str, Loss]
    parts: Mapping[str, Component]
    stages: Mapping[str, Stage]
    overridden: Mapping[str, Mapping[str, Mapping[str, Component | View | None]]]
    """Stage -> section -> name -> the entry that the stage has instead; None where it removed one."""
    document: Document = field(compare=False, repr=False)
    scopes: Mapping[str, Scope] = field(compare=False, repr=False)
    entries: tuple[Entry, ...] = field(compare=False, repr=False)

    def scope(self, stage: str) -> Scope:
        """What a stage sees; KeyError for a stage that is not there."""
        return self.scopes[stage]

    def resolved(self) -> dict[str, Any]:
        """The spec with everything written out, as data of the language that validates to an equal spec."""
        return resolved_data(self)

    def to_yaml(self) -> str:
        """`resolved` as YAML text. Values of the environment stay `${env.NAME}`."""
        return write_yaml(self.resolved())
