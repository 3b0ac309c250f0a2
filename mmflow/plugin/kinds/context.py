"""The surroundings of a running stage: its context with inputs and outputs, and a reporter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mmflow.plugin.kinds.data import Source
from mmflow.plugin.kinds.scope import StageScope, StageSpec
from mmflow.plugin.kinds.services import Answering
from mmflow.plugin.targets import Place, Target
from mmflow.plugin.values import Argument, Encoding, Json, Metric, RawValue, TensorType

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class Reporter(Protocol):
    """The messages of a stage to the world while it works; no call raises, blocks for long or changes a result."""

    def progress(self, done: int, total: int, **metrics: float) -> None:
        """`done` of `total` units of work (steps, batches), with current values to show beside."""
        ...

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Everything that was measured at a step, by name (`loss/align`), for trackers to draw."""
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


@dataclass(frozen=True)
class ColumnValues:
    """A stored column: a value for each id (None where absent), and the declared type."""

    ids: list[str]
    values: list[RawValue]
    type: TensorType

    def present(self) -> tuple[list[str], list[RawValue]]:
        """The ids that have a value, and these values."""
        there = [place for place, value in enumerate(self.values) if value is not None]
        return [self.ids[place] for place in there], [self.values[place] for place in there]


@dataclass(frozen=True)
class DataRows:
    """Rows of a stage's data: ids, and by the place of each reference what it leads to.

    An encoder gives an `Encoding`; a field a tensor [N, ...], `Tokens` or a list, absent values -1 in integers, NaN in
    floats and None in lists.
    """

    ids: list[str]
    columns: Mapping[Place, Argument]

    def __getitem__(self, field: str | Place) -> Argument:
        """The column of a field (`"labels"`), or of a place in one (`("of", 0)`)."""
        return self.columns[(field,) if isinstance(field, str) else field]


class StageModel(Protocol):
    """The model that a stage uses, for further values and for another version of its weights."""

    def encode(self, encoder: str, values: Sequence[RawValue]) -> Encoding:
        """Encode raw values (prompts, images) with an encoder that reads one field; `encoder` is a reference of the
        stage, and the outputs are those that it brings."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by path (`encoders.image.blocks.0.mlp.weight`), on the CPU: all of a trained model, of
        the untrained one those of the entries that the stage's fields name."""
        ...


class InnerStages(Protocol):
    """The stages inside a stage (`refresh`), which run in its process. Their outputs are local directories, by their
    full names as `StageScope.groups` has them."""

    def run(
        self, stage: str, output: Path, results: Mapping[str, Path], *, numbers: Mapping[Place, Json], time: str
    ) -> None:
        """Run one, which writes to `output`.

        `results` are directories that it may read beside those of stages of the plan: of the stage around its model as
        it is now. `numbers` take the places of others in its declaration. `time` tells this time from others.
        """
        ...

    def source(self, results: Mapping[str, Path]) -> Source:
        """The data of the stage around, with what stages inside have given so far."""
        ...


class StageContext(Protocol):
    """The tools and places that a running stage gets from the flow.

    Fields of the stage that hold references are read by their names: `column("of")`, of several `column("of", 1)`.
    """

    name: str
    output: Path
    """A local directory; files written there are published whole when `run` returns."""
    scratch: Path
    """A local directory for files of the stage's own, removed at its end."""
    device: str
    workers: int

    @property
    def spec(self) -> StageSpec: ...
    @property
    def scope(self) -> StageScope: ...
    @property
    def report(self) -> Reporter: ...
    @property
    def inside(self) -> InnerStages: ...

    def column(self, *place: str | int) -> ColumnValues:
        """The column of another stage that a reference leads to."""
        ...

    def static(self, *place: str | int) -> tuple[np.ndarray, TensorType]:
        """The static output of another stage that a reference leads to: values [R, ...] and their type."""
        ...

    def files(self, *place: str | int) -> Mapping[str, Path]:
        """The files of another stage that a reference leads to, by their relative names."""
        ...

    def metrics(self, *place: str | int) -> list[Metric]:
        """The metrics of another stage that a reference leads to."""
        ...

    def source(self, data: Target | Mapping[str, Target] | None = None) -> Source:
        """The stage's data with what joins it (or other data, by the target of a reference), to be opened and read."""
        ...

    def rows(self, *fields: str) -> DataRows:
        """All rows of the stage's data with what its fields `fields` refer to: encodings, fields, columns that join.

        Encodings come from the store where they are there.
        """
        ...

    def scan(self, *fields: str, batch_size: int = 256) -> Iterator[DataRows]:
        """The same, batch by batch, for data that does not fit in memory; nothing is stored."""
        ...

    def model(self) -> StageModel:
        """The model that the stage uses."""
        ...

    def write_column(
        self,
        name: str,
        ids: Sequence[str],
        values: Tensor | Sequence[RawValue],
        type_: TensorType | None = None,
        present: Tensor | None = None,
    ) -> None:
        """Write an output of type `Column`; `type_` is what `outputs` declares where it is left out."""
        ...

    def write_static(self, name: str, values: np.ndarray, type_: TensorType | None = None) -> None:
        """Write an output of type `Static`, values [R, ...]."""
        ...

    def write_data(
        self,
        name: str,
        ids: Sequence[str],
        fields: Mapping[str, Sequence[RawValue]],
        types: Mapping[str, TensorType],
        *,
        static: Mapping[str, np.ndarray] | None = None,
        continues: Sequence[str] | None = None,
    ) -> None:
        """Write an output of type `Data`: rows with ids and fields.

        With `continues`, each row is one of the stage's own data (named by its id) with fields added, and nothing is
        copied.
        """
        ...

    def write_files(self, name: str) -> Path:
        """The empty folder of an output of type `Files`, to write in."""
        ...

    def write_model(self, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write the model that the stage uses as its own output, with `weights` in place of those of equal path."""
        ...

    def remark(self, text: str) -> None:
        """Warn about the stage's result, with numbers: stored with it, and shown wherever it is shown."""
        ...

    def upstream(self, stage: str) -> Path:
        """The local directory with the outputs of a stage that this one reads."""
        ...

    def service(self, *place: str | int) -> Answering:
        """The service in a field of the stage, such as `service("judge")` or `service("propose", "service")`; its
        answers are recorded in the run store and replayed."""
        ...

    def memo(self, request: Mapping[str, Json], produce: Callable[[], Json]) -> Json:
        """A single result of this very stage: the one recorded for `request`, else that of `produce()`, recorded at
        once, so that a killed stage goes on from there. Both are JSON; the value comes back as JSON gives it."""
        ...

    def memo_files(self, identity: Mapping[str, Json], produce: Callable[[Path], None]) -> Path:
        """The directory stored under `identity`, for all stages that name it; made by `produce(directory)` where it is
        not there."""
        ...

    def encoder_identity(self, target: Target, data: Target | None = None) -> Mapping[str, Json]:
        """All that the encodings of one encoder depend on, data included (other data than the stage's own where it is
        given), for `memo_files`."""
        ...

    def save_partial(self, directory: Path) -> None:
        """Store the files of `directory` as a checkpoint of this stage, to go on from where it is stopped or killed."""
        ...

    def load_partial(self) -> Path | None:
        """The newest checkpoint of an earlier, unfinished try at this very stage."""
        ...
