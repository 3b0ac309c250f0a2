"""The surroundings of a running stage: its context, the answers of its scope, the whole spec, and a reporter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from mmflow.plugin.component import Component
from mmflow.plugin.kinds.data import Source, View
from mmflow.plugin.kinds.model import Encoder, Loss, Memory
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import Json, TensorType


class Reporter(Protocol):
    """The messages of a stage to the world while it works; no call raises, blocks for long or changes a result."""

    def progress(self, done: int, total: int, **metrics: float) -> None:
        """`done` of `total` units of work (steps, batches), with current values to show beside."""
        ...

    def table(self, key: str, rows: Sequence[Mapping[str, Json]]) -> None:
        """A small table, such as metrics; rows have equal keys."""
        ...

    def markdown(self, key: str, text: str) -> None:
        """A text in Markdown."""
        ...

    def link(self, key: str, url: str, text: str | None = None) -> None:
        """A path or URL worth opening, such as the report."""
        ...

    def note(self, text: str) -> None:
        """A line for the user, of this run alone."""
        ...

    def should_stop(self) -> bool:
        """Whether to stop; asked between steps. A stage that is to stop saves its checkpoint, raises `StageStopped`."""
        ...


class StageStopped(Exception):
    """Raised by a stage that was asked to stop, after it has saved the state that its next run starts from."""


class Origin(NamedTuple):
    """Where another stage's model has an encoder: its module, and the entry that keeps its learned preprocessing."""

    stage: str
    module: Owner
    preparation: Owner


class Structure(NamedTuple):
    """The declaration that builds an encoder's module, found by following `weights`.

    `owner` is the entry of this stage under which its learned preprocessing is kept. `origin` is set where structure,
    weights and preprocessing come from another stage's model.
    """

    owner: Owner
    encoder: Encoder
    origin: Origin | None = None


class StageScope(Protocol):
    """The view of one stage, and every answer about how its entries are wired.

    The sections are the global ones merged with the stage's own. `losses` are those that the stage minimizes, or, for
    a stage that minimizes none, those that it refers to.
    """

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
    def data_name(self) -> str | None:
        """The entry of data that the stage reads."""
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
    def preparation_data(self) -> str | None:
        """The entry of data that encoders learn their preprocessing from."""
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

    def inputs(self, owner: Owner) -> Mapping[Place, Target]:
        """The targets of `of`; an application without `of` reads what its structure reads."""
        ...

    def structure(self, owner: Owner) -> Structure:
        """Where `weights` lead from an encoder; raises `ComponentError` where there is no encoder at the end."""
        ...

    def module(self, owner: Owner) -> Owner:
        """The encoder whose module runs `owner`: itself, or the one whose very weights it applies."""
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


class StageContext(Protocol):
    """The tools and places that a running stage gets from the flow."""

    name: str
    output: Path
    """A local directory; files written there are published whole when `run` returns."""
    device: str
    workers: int

    @property
    def spec(self) -> StageSpec: ...
    @property
    def scope(self) -> StageScope: ...
    @property
    def report(self) -> Reporter: ...

    def remark(self, text: str) -> None:
        """Warn about the stage's result, with numbers: stored with it, and shown wherever it is shown."""
        ...

    def upstream(self, stage: str) -> Path:
        """The local directory with the outputs of a stage that this one reads."""
        ...

    def memo(self, identity: Mapping[str, Json], produce: Callable[[Path], None]) -> Path:
        """The directory stored under `identity`; made by `produce(directory)` where it is not there."""
        ...

    def encoder_identity(self, target: Target, data: str | None = None) -> Mapping[str, Json]:
        """All that the encodings of one encoder depend on, data included (the entry `data`; the stage's own where
        None), for `memo`."""
        ...

    def save_partial(self, directory: Path) -> None:
        """Store the files of `directory` as a checkpoint of this stage, to go on from where it is stopped or killed."""
        ...

    def load_partial(self) -> Path | None:
        """The newest checkpoint of an earlier, unfinished try at this very stage."""
        ...
