"""The wiring of a stage as it sees it: its entries, and the answers about where their references lead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mmflow.plugin.component import Component
from mmflow.plugin.kinds.data import Source, View
from mmflow.plugin.kinds.model import Encoder, Loss, Memory
from mmflow.plugin.targets import INIT, Owner, Place, Target
from mmflow.plugin.values import TensorType


class Origin(NamedTuple):
    """Where another stage's model has an encoder: its module, and the entry that keeps its learned preprocessing."""

    stage: str
    module: Owner
    preparation: Owner

    @property
    def trained(self) -> bool:
        """Whether there is a stored model; the untrained one is drawn, and its preprocessing learned, where it is
        read."""
        return self.stage != INIT


class Structure(NamedTuple):
    """The declaration that builds an encoder's module, found by following `weights`.

    `owner` is the entry of this stage under which its learned preprocessing is kept. `origin` is set where structure,
    weights and preprocessing come from another stage's model.
    """

    owner: Owner
    encoder: Encoder
    origin: Origin | None = None


@dataclass(frozen=True)
class InnerGroup:
    """Stages that run inside a stage one after another, again and again. All are called by their full names."""

    name: str
    stages: Mapping[str, str]
    """By its own name each stage, in order: the name under which others read what it gives."""
    later: Mapping[str, str]
    """The same, by the names of the scopes that they have from the second time on."""
    numbers: Mapping[str, Mapping[Place, str]]
    """By scope, the places of numbers that go from one time to the next, with the names of these."""
    given: Mapping[str, Target]
    """By the name of such a number, the static output that it is the next time."""
    read: frozenset[str]
    """The stages whose values the stage around reads."""
    remembered: frozenset[str]
    """The stages whose outputs are read the next time."""
    published: Mapping[str, tuple[str, str, str]]
    """Outputs of the stage around by name: the stage inside, its output, and the type of that."""


class StageScope(Protocol):
    """The view of one stage, and every answer about how its entries are wired.

    The sections are the global ones merged with the stage's own. `losses` are those that the stage minimizes, or, for
    a stage that minimizes none, those that it refers to.
    """

    @property
    def stage(self) -> str:
        """The name of the stage in its spec."""
        ...

    @property
    def seed(self) -> int:
        """Of the stage's weights, order and draws: the spec's or its own, in a repetition of that iteration."""
        ...

    @property
    def views(self) -> Mapping[str, View]: ...
    @property
    def encoders(self) -> Mapping[str, Encoder]: ...
    @property
    def memories(self) -> Mapping[str, Memory]: ...
    @property
    def losses(self) -> Mapping[str, Loss]: ...
    @property
    def parts(self) -> Mapping[str, Component]: ...
    @property
    def data(self) -> Target | Mapping[str, Target] | None:
        """Where the rows come from that the stage reads: an entry of data, or data that another stage makes."""
        ...

    @property
    def data_name(self) -> str | None:
        """The data that the stage reads, as a spec names it."""
        ...

    @property
    def source(self) -> Source | None: ...
    @property
    def fields(self) -> Mapping[str, TensorType]:
        """The declared fields of its data."""
        ...

    @property
    def start(self) -> str | None:
        """Of a stage that trains: the stage whose model it begins with; None: an untrained one."""
        ...

    @property
    def model(self) -> str | None:
        """Of other stages: the stage whose model they use; None: an untrained one."""
        ...

    @property
    def preparation_data(self) -> Target | Mapping[str, Target] | None:
        """The data that encoders learn their preprocessing from."""
        ...

    @property
    def joined(self) -> Mapping[str, Target]:
        """Outputs of other stages that join the stage's data, by the name of the field that each becomes there."""
        ...

    @property
    def groups(self) -> Mapping[str, InnerGroup]:
        """The groups of stages inside the stage."""
        ...

    @property
    def untrained(self) -> StageScope:
        """The same data and names with the entries that all stages share: the view of the model `init`."""
        ...

    def component(self, owner: Owner) -> Component | View | None:
        """The declaration behind an owner, the stage's own included; None for a field of the data."""
        ...

    def targets(self, owner: Owner) -> Mapping[Place, Target]:
        """Every reference inside an entry, or inside the stage itself, by its place."""
        ...

    def type_of(self, target: Target) -> TensorType:
        """The declared type behind a target; raises `ComponentError` where it has none (a stage's output)."""
        ...

    def outputs(self, owner: Owner) -> Mapping[str, TensorType]:
        """All declared outputs of an encoder or a view, by name."""
        ...

    def emits(self, owner: Owner) -> tuple[str, ...]:
        """Names under which the module of an encoder, or of its head, emits values beside its outputs."""
        ...

    def inputs(self, owner: Owner) -> Mapping[Place, Target]:
        """The targets of `of`; an application without `of` reads what its structure reads."""
        ...

    def gathered(self, owner: Owner) -> Mapping[Place, Target]:
        """The targets of `rows`; an application without `of` takes the rows that its structure takes."""
        ...

    def structure(self, owner: Owner) -> Structure:
        """Where `weights` lead from an encoder; raises `ComponentError` where there is no encoder at the end."""
        ...

    def module(self, owner: Owner) -> Owner:
        """The encoder whose module runs `owner`: itself, or the one whose very weights it applies."""
        ...

    def takes(self, owner: Owner) -> bool:
        """Whether the stage takes over an entry of the model that it begins with."""
        ...

    def trains(self, owner: Owner) -> bool:
        """Whether a gradient may reach the weights that run an encoder."""
        ...

    def held(self, owner: Owner) -> Iterator[tuple[Place, Component]]:
        """The components in the fields of an entry by place, shared ones as the entry that they lead to."""
        ...

    def reach(self, *owners: Owner) -> tuple[Owner, ...]:
        """All entries that the owners need, themselves included, each after those that must come before it."""
        ...

    def reached(self) -> tuple[Owner, ...]:
        """All entries that the stage needs: by its own references, by its losses, and to keep its model whole."""
        ...

    def roots(self) -> tuple[Owner, ...]:
        """The entries that the stage's model is built for.

        The losses that the stage minimizes, the memories that they read, and the averages of what it trains; for a
        stage that minimizes none, the encoders, losses, memories and parts that its own fields name.
        """
        ...


class StageSpec(Protocol):
    """The whole spec, as far as a running stage may look at it."""

    @property
    def name(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def data(self) -> Mapping[str, Source]: ...
    @property
    def trains(self) -> bool:
        """Whether any of its stages does."""
        ...

    def scope(self, stage: str) -> StageScope:
        """The view of another stage; KeyError for a stage that is not there."""
        ...
