"""Kinds that do the work of a run: stages and evaluators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mmflow.plugin.component import Component
from mmflow.plugin.kinds.context import StageContext
from mmflow.plugin.kinds.data import Sampler, Source
from mmflow.plugin.marks import in_order, outside_identity
from mmflow.plugin.references import Column, Data, Encoded, Model, RawField, Ref, Refs, Static, Written
from mmflow.plugin.targets import Place
from mmflow.plugin.values import Argument, Encoding, EvaluationResult, RawValue, TensorType


class BatchSizes(NamedTuple):
    """Rows of a global batch, and of the micro-batches that it is cut into."""

    batch: int
    micro: int


class StreamBatches(NamedTuple):
    """How the batches of a stream are drawn."""

    sampler: Sampler
    size: int


class Fault(NamedTuple):
    """A mistake between the fields of a stage: the field at fault, in words, and the fix."""

    place: Place
    message: str
    hint: str = ""
    name: str = ""
    """A name that leads nowhere, where that is the mistake; `among` are those that there are."""
    among: Sequence[str] = ()


@dataclass(frozen=True)
class Tally:
    """An entry of data, counted before a run."""

    rows: int | None
    """None where only a whole pass would tell."""
    classes: Mapping[str, Mapping[int, int]]
    """Rows of each class, by the reference to a field with one label a row; only for small entries."""
    names: Mapping[str, tuple[str, ...]]
    """Names of the classes, by the same references."""


@dataclass(frozen=True)
class StageInputs:
    """What is declared of a stage's inputs before any of them is made: the types behind its references by place, and
    the fields of its data."""

    types: Mapping[Place, TensorType]
    fields: Mapping[str, TensorType]

    def of(self, *place: str | int) -> TensorType:
        """The type behind a reference; of the modality `unknown` where nobody has declared it."""
        return self.types.get(place, TensorType("unknown"))


class Stage(Component, kind="stage"):
    """A node of the plan: a plain function of its declaration and inputs. `gives` maps the names of its outputs to
    types (`Model`, `Data`, `Column`, `Static`, `Files`, `Metrics`); the first is the main one.

    The core asks a stage for its part in a run by the attributes and methods below, never by its name.
    """

    gives: ClassVar[Mapping[str, str]] = {}
    trains: ClassVar[bool] = False
    """The stage minimizes losses: weights change, and encoders learn their preprocessing from its data."""
    measures: ClassVar[bool] = False
    """The core embeds the stage's data and calls its method, instead of `run`."""
    inner: ClassVar[str] = ""
    """The field with groups of stages that run inside this one (`context.inside`), by the names of the groups."""

    def given(self) -> Mapping[str, str]:
        """The outputs of this declaration, where its fields name them."""
        return self.gives

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType | Mapping[str, TensorType]]:
        """The declared types of its outputs: of a `Column` and a `Static` the type of a value, of `Data` the types of
        its fields. A column's type names the axis of its ids first, a static output's the axis of its rows."""
        return {}

    def seeded(self, seed: int) -> int:
        """The seed of the stage's draws, where the spec's is `seed`."""
        return seed

    def depends_on_seed(self) -> bool:
        """Whether its own work depends on its seed (`context.scope.seed`), beside the weights of encoders that nothing
        has trained. One that does not is the same stage for all seeds of a matrix."""
        return True

    def taken(self) -> Sequence[str] | None:
        """Path patterns of the entries (`encoders.image`, `losses.*`) that the stage takes over from the model that it
        begins with; None for all."""
        return None

    def minimized(self, losses: Sequence[str]) -> Sequence[str]:
        """Names of the losses that the stage minimizes, where the spec has those of `losses`."""
        return losses if self.trains else ()

    def sizes(self) -> BatchSizes | None:
        """The batches of a stage that takes steps; None for another."""
        return None

    def order(self) -> Sampler | None:
        """The sampler that draws the stage's batches; None where the stage reads its data from front to back."""
        return None

    def drawn(self) -> Mapping[str, StreamBatches]:
        """How the batches of each stream are drawn, under the empty name where data has no streams; none for a stage
        that takes no steps."""
        sampler, sizes = self.order(), self.sizes()
        return {} if sampler is None or sizes is None else {"": StreamBatches(sampler, sizes.batch)}

    def patterns(self) -> Mapping[str, str]:
        """The path patterns of the stage's parameter groups, by the name of the group."""
        return {}

    def judges(self) -> Mapping[Place, str]:
        """Metrics of stages inside this one, as `GROUP.STAGE.METRIC`, by the places of the fields that name them."""
        return {}

    def faults(self, losses: Sequence[str]) -> Iterator[Fault]:
        """Mistakes between the stage's own fields, where the spec has the losses `losses`."""
        return iter(())

    def refuses(self, source: Source) -> Iterator[tuple[str, str, str]]:
        """Why the stage cannot read its data: the field of the stage at fault, the reason, and the fix."""
        return iter(())

    def refuses_stream(self, source: Source, stream: str) -> Iterator[Fault]:
        """Why the stage cannot read a stream of its data; the empty name is that of data without streams."""
        for place, message, hint in self.refuses(source):
            yield Fault((place,), message, hint)

    def refuses_values(self, columns: Mapping[str, Sequence[RawValue]]) -> Iterator[tuple[str, str, str]]:
        """Why the stage can do nothing with these values, said as `refuses` does; `columns` are whole fields of its
        data, by the field of the stage that refers to one, asked before a run where the data is small."""
        return iter(())

    def run(self, context: StageContext) -> None:
        """Write the outputs under `context.output`."""
        raise NotImplementedError


class Stream(BaseModel):
    """One of the streams of data that a stage reads under names: `pool.image` is the field `image` of `pool`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Ref[Data]
    fields: dict[str, Ref[Column | Static]] = Field(
        default={}, description="outputs of other stages as fields of this stream: a column joins by id"
    )
    batch_size: int | None = Field(default=None, ge=1, description="the stage's by default")
    sampler: Sampler | None = Field(default=None, description="the stage's by default")


def _in_full(raw: Written) -> Written:
    if not isinstance(raw, Mapping):
        return raw
    return {name: {"data": one} if isinstance(one, str) else one for name, one in raw.items()}


StreamMap = Annotated[
    dict[str, Stream],
    Field(min_length=1, max_length=64),
    BeforeValidator(_in_full, json_schema_input_type=dict[str, str | Stream | Source]),
]


class DataStage(Stage):
    """A stage that reads the rows of data.

    Under the names of streams (`data: {labeled: train, pool: rest}`), a stage that trains draws batches of each; any
    other stage reads the rows of one entry under all of these names.
    """

    data: Ref[Data] | StreamMap = in_order()
    fields: dict[str, Ref[Column | Static]] = Field(
        {}, description="outputs of other stages as fields of the data: a column joins by id, a static one as it is"
    )
    replace: dict[str, Ref[Encoded | RawField]] = Field(
        {}, description="views, fields and encoders that others stand in for, in this stage"
    )

    def streams(self) -> Mapping[str, Stream]:
        """The streams by name; none where the data has none."""
        return {} if isinstance(self.data, str) else self.data

    def faults(self, losses: Sequence[str]) -> Iterator[Fault]:
        streams = self.streams()
        if streams and self.fields:
            hint = f"write data: {{{next(iter(streams))}: {{data: ..., fields: ...}}}}"
            yield Fault(("fields",), "`fields` of a stage with streams: each stream has its own", hint)
        first = next(iter(streams.values()), None)
        for name, stream in streams.items() if not self.trains else ():
            for field in ("batch_size", "sampler"):
                if getattr(stream, field) is not None:
                    message = f"`{field}` of a stream is for stages that train"
                    yield Fault(("data", name, field), message, "leave it out")
            if first is not None and stream.data != first.data:
                message = f"rows of {first.data} and of {stream.data} are not the same rows"
                hint = "name one entry of data under all names, and measure the other in a stage of its own"
                yield Fault(("data", name), message, hint)


class Evaluator(DataStage):
    """A stage that measures. Write `evaluate` with `of` in order, each an `Encoding` over all rows of `data`,
    and other fields by name (references to fields as tensors or lists, `score` built); on request `ids`
    (list of str), `texts_of` (those that each of `of` reads), `model` (an object with `encode`, to encode further
    values) and `generator` (a `torch.Generator`). Returns `EvaluationResult`. The flow embeds the data, or finds the
    encodings in the store, and calls it."""

    method: ClassVar[str] = "evaluate"
    gives: ClassVar[Mapping[str, str]] = {"metrics": "Metrics"}
    measures: ClassVar[bool] = True
    axes: ClassVar[tuple[str, ...]] = ("*",)
    """Group axes of `of` that it takes, by name; `*` is any."""
    encodes: ClassVar[Mapping[int, str]] = {}
    """Encoders that are given values of the evaluator's own, by their place in `of`, with the modality of these."""

    of: Refs[Encoded | RawField] = ()
    model: Ref[Model] | None = None
    dims: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field(
        (), description="lengths at which vectors are measured again, by their first numbers"
    )
    batch_size: int = outside_identity(256, ge=1)

    def depends_on_seed(self) -> bool:
        return "generator" in self.arguments()

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[tuple[str, str, str]]:
        """Why there are too few rows or classes to measure, said as `refuses` does; `tallies` by the field that names
        the entry (`data`, `test`), asked before a run."""
        return iter(())

    def refuses_encodings(self, *of: Encoding) -> Iterator[tuple[str, str, str]]:
        """Why encodings of these sizes cannot be measured, said as `refuses` does; two rows without values, asked
        before a run."""
        return iter(())

    def evaluate(self, *args: Argument, **kwargs: Argument) -> EvaluationResult:
        raise NotImplementedError
