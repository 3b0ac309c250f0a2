"""`Scope`: the view of one stage of a checked spec, and the answers about how it is wired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.kinds import Application, Encoder, InnerGroup, Loss, Memory, Source, Stage, Structure, View
from mmflow.plugin.targets import STAGE, Owner, Place, Target
from mmflow.plugin.values import TensorType
from mmflow.spec.references.types import Types

_IN_MODELS = ("encoders", "losses", "memories", "parts")


@dataclass(frozen=True, eq=False)
class Scope:
    """The view of one stage (`mmflow.plugin.kinds.StageScope`): sections merged with its own, data, model, wiring."""

    stage: str
    declaration: Stage
    seed: int
    views: Mapping[str, View]
    encoders: Mapping[str, Encoder]
    memories: Mapping[str, Memory]
    losses: Mapping[str, Loss]
    """Those that the stage minimizes; for a stage that minimizes none, those that it refers to."""
    parts: Mapping[str, Component]
    data: Target | Mapping[str, Target] | None
    """The entry of data that the stage reads, or the stage that makes its data; of a training with streams each."""
    source: Source | None
    """Its source; None for data that is not made yet. A running stage has it with all that joins it."""
    fields: Mapping[str, TensorType]
    joined: Mapping[str, Target]
    """Outputs of stages that join the data, by the name of the field that each becomes."""
    groups: Mapping[str, InnerGroup]
    """The groups of stages inside the stage."""
    around: str | None
    """The stage that it runs in; None for a stage of the plan."""
    start: str | None
    model: str | None
    preparation_data: Target | Mapping[str, Target] | None
    wiring: Types = field(repr=False)
    base: Scope | None = field(default=None, repr=False)
    """The entries that all stages share, on this stage's data; None for that scope itself."""

    @property
    def data_name(self) -> str | None:
        """The data that the stage reads, as a spec names it."""
        data = next(iter(self.data.values()), None) if isinstance(self.data, Mapping) else self.data
        return str(data) if data is not None else None

    @property
    def untrained(self) -> Scope:
        """The view of the model `init`: the entries that all stages share, on the data of this one."""
        return self.base or self

    def component(self, owner: Owner) -> Component | View | None:
        # The numbers of a stage inside another change from one time to the next.
        return self.declaration if owner == STAGE else self.wiring.component(owner)

    def targets(self, owner: Owner) -> Mapping[Place, Target]:
        """Every reference inside an entry, or inside the stage (`STAGE`), by its place: `("of", 0)`, `("labels",)`."""
        return self.wiring.targets(owner)

    def type_of(self, target: Target) -> TensorType:
        """The declared type behind a target; raises `ComponentError` where it has none (a stage's output)."""
        found = self.wiring.type_of(target)
        if found is None:
            raise ComponentError(f"{target.owner} has no declared type", found=str(target.owner))
        return found

    def outputs(self, owner: Owner) -> Mapping[str, TensorType]:
        """All declared outputs of an encoder or a view, by name."""
        return self.wiring.outputs_of(owner) or {}

    def emits(self, owner: Owner) -> tuple[str, ...]:
        """Names under which the module of an encoder, or of its head, emits values beside its outputs."""
        return self.wiring.emits(owner)

    def given(self) -> Mapping[str, TensorType | Mapping[str, TensorType]]:
        """The declared types of the stage's outputs: of a value, or of the fields of data."""
        return self.wiring.given()

    def inputs(self, owner: Owner) -> Mapping[Place, Target]:
        """The targets of `of`; an application without `of` reads what its structure reads."""
        return self.wiring.inputs(owner)

    def gathered(self, owner: Owner) -> Mapping[Place, Target]:
        """The targets of `rows`; an application without `of` takes the rows that its structure takes."""
        return self.wiring.gathered(owner)

    def structure(self, owner: Owner) -> Structure:
        """Where `weights` lead from an encoder; raises `ComponentError` where there is no encoder at the end."""
        found = self.wiring.structure(owner)
        if found is None:
            raise ComponentError(f"the weights of {owner} lead to no encoder", found=str(owner))
        return found

    def module(self, owner: Owner) -> Owner:
        """The encoder whose module runs `owner`: itself, or the one whose very weights it applies."""
        return self.wiring.module(owner)

    def takes(self, owner: Owner) -> bool:
        """Whether the stage takes over an entry of the model that it begins with."""
        return self.wiring.takes(owner)

    def trains(self, owner: Owner) -> bool:
        """Whether a gradient may reach the weights that run an encoder."""
        return self.wiring.trains(owner)

    def held(self, owner: Owner) -> Iterator[tuple[Place, Component]]:
        """The components in the fields of an entry, shared ones as the entry that they lead to."""
        return self.wiring.held(owner)

    def reach(self, *owners: Owner) -> tuple[Owner, ...]:
        """All entries that the owners need, themselves included, each after those that must come before it."""
        return self.wiring.reach(*owners)

    def reached(self) -> tuple[Owner, ...]:
        """All entries that the stage needs: by its own references, by its losses, and to keep its model whole."""
        return self.reach(STAGE, *self._minimized(), *self._following())

    def roots(self) -> tuple[Owner, ...]:
        """The entries that the stage's model is built for.

        The losses that the stage minimizes, the memories that they read, and the averages of what it trains; for a
        stage that minimizes none, the encoders, losses, memories and parts that its own fields name.
        """
        losses = self._minimized()
        if self.declaration.trains:
            memories = [owner for owner in self.reach(*losses) if owner.section == "memories"]
            return (*losses, *memories, *self._following())
        named = (t.owner for t in self.targets(STAGE).values() if t.stage is None and t.section in _IN_MODELS)
        return tuple(dict.fromkeys(named))

    def _following(self) -> tuple[Owner, ...]:
        """Averages of encoders that the stage trains, which no loss reads: a later stage may."""
        if not self.declaration.trains:
            return ()
        known = set(self.reach(*self._minimized()))
        found = []
        for name, made in self.encoders.items():
            owner = Owner("encoders", name)
            if owner not in known and isinstance(made, Application) and made.follows:
                followed = [link.owner for link in self.wiring.applied(owner) if link.stage is None][1:]
                found += [owner] if followed and known.issuperset(followed) else []
        return tuple(found)

    def _minimized(self) -> tuple[Owner, ...]:
        return tuple(Owner("losses", name) for name in self.losses)
