"""The kinds of component. Subclass one with `name=` and write the method that its docstring describes.

Arguments are named like the fields: a parameter named like a field receives that field (references as
tensors, sub-components built, moving numbers as numbers or tensors); the others receive `of`, in order;
`generator`, `clock` and the like come on request (`component.ON_REQUEST`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from mmflow.plugin.component import Component, ComponentError, default, outside_identity
from mmflow.plugin.numbers import Value
from mmflow.plugin.references import Bank, Data, Encoded, Labels, Model, Pooled, RawField, Ref, RefMap, Refs, Weight
from mmflow.plugin.values import Encoding, Measured, TensorType, in_all

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Scope = Literal["row", "batch"]


# --- data ---------------------------------------------------------------------------------------------


class Reader(Protocol):
    """An opened source: random access to samples. Picklable, so that loader workers can have their own.

    Optional: `read(index, fields)` reads only what is wanted, `index(id)` finds a sample by its id, and a true
    `in_process` says that the samples live in this process, so that no worker could read them.
    """

    def __len__(self) -> int: ...

    def id(self, index: int) -> str:
        """The stable id of sample `index`, without reading it where that is possible."""
        ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Raw fields: images as uint8 HWC arrays, text as str, labels as int, None where absent."""
        ...

    def static(self) -> Mapping[str, Any]:
        """Fields without the sample axis."""
        ...


class Streaming(BaseModel):
    """How a source without random access is read: shards are dealt to lanes, batches come from the lanes in turn.

    Fewer lanes than shards; as many worker processes as lanes can be kept busy. More `open` shards and a larger
    `buffer` mix better and take more memory: lanes times buffer raw samples, lanes times open files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lanes: int = Field(8, ge=1, le=256)
    open: int = Field(2, ge=1, le=64, description="shards that a lane reads side by side")
    buffer: int = Field(256, ge=1, description="raw samples that a lane draws from")
    samples: int | None = Field(None, ge=1, description="in an epoch, where known: `epochs` and schedules need it")


@runtime_checkable
class ShardReader(Protocol):
    """An opened source without random access: its shards are read from front to back. Picklable.

    Optional: a true `in_process`, as for `Reader`.
    """

    def shards(self) -> Sequence[str]:
        """Names of the shards, in order."""
        ...

    def shard(self, number: int, fields: Collection[str]) -> Iterator[tuple[str, Any]]:
        """Ids and raw samples of a shard, in order; `decode` will ask for no other fields of them than `fields`."""
        ...

    def decode(self, id: str, raw: Any, fields: Collection[str]) -> Mapping[str, Any]:
        """The fields of a raw sample, as a `Reader` gives them; raises `SkippedSample` as the policy says."""
        ...

    def static(self) -> Mapping[str, Any]:
        """Fields without the sample axis."""
        ...


class Source(Component, kind="source"):
    """Where samples come from. Torch-free; `fields` and `fingerprint` may read headers and listings."""

    def fields(self) -> Mapping[str, TensorType]:
        """Declared fields. Raises `ComponentError` where files are missing or malformed."""
        raise NotImplementedError

    def open(self) -> Any:
        """A `Reader`; a `ShardReader` where `streaming` says how to read it."""
        raise NotImplementedError

    def streaming(self) -> Streaming | None:
        """How samples are read in order, where there is no random access to them."""
        return None

    def fingerprint(self) -> Any:
        """What stands for the content in a key (sizes, etags, hashes), beside the fields; procedural: None."""
        return None


class Transform(Component, kind="transform"):
    """One step of a view: maps raw values, drawing from `generator` (a numpy Generator).

    `apply(value, generator)` takes one sample's value (in a view of several fields a mapping of those that are there)
    and returns the new one, or `(value, {"name": fact})` to add fields that say what it did. With `per_batch`, it takes
    a list with one value a row of the global batch (in a view of several fields a mapping of all, None for what is
    absent), None where nothing of the row is there, and returns such a list, or `(values, {"name": [fact a row]})`.
    `generator` is None in evaluation: the deterministic form (a centre crop, no flip, nothing mixed).
    """

    adds: ClassVar[Mapping[str, TensorType]] = {}
    per_batch: ClassVar[bool] = False
    """True where a row's result depends on the other rows of the batch (mixup)."""

    def apply(self, value: Any, generator: Any) -> Any:
        raise NotImplementedError

    def result(self, field: TensorType) -> TensorType:
        """The declared type of a field after the transform. Raises `ValueError` where it cannot be transformed."""
        return field

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        """The declared types of what `adds` names, for fields of these types before the transform."""
        return self.adds

    def fitted(self, *fields: TensorType) -> Transform:
        """The transform with what it takes over from the types of its fields, such as the names of classes."""
        return self


class View(BaseModel):
    """An entry of `views:`: fields drawn together through transforms; `copies` > 1 adds the axis `copy`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: Refs[RawField] = Field(min_length=1)
    apply: tuple[Transform, ...] = ()
    copies: int = Field(1, ge=1, le=64)

    @property
    def names(self) -> tuple[str, ...]:
        """Under what name each field of `of` is given: the last word of its reference."""
        return tuple(next((w for w in reversed(of.split(".")) if not w.isdecimal()), of) for of in self.of)

    def copies_of(self, *inner: int) -> int:
        """How many copies there are where the fields of `of` have so many (1 for none)."""
        several = sorted({count for count in inner if count > 1})
        if len(several) > 1 or (several and self.copies > 1):
            counts = " and one that has ".join(map(str, several))
            message = f"a view that has {counts}"
            message = f"the view makes {self.copies} copies of {message}" if self.copies > 1 else f"it reads {message}"
            raise ComponentError(message, hint="name one copy, as in `of: two.0`")
        return max(self.copies, *several, 1)

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        """Names and declared types of what the view gives, for inputs of these types in the order of `of`.

        First come the fields, the main one at the head, then what transforms add (of two that add the same, the last).
        Transforms see one copy at a time; where the view or an input has copies, all that the view gives has the axis
        `copy`. Raises `ComponentError` for copies of copies and for names given twice, `ValueError` where a transform
        cannot take a field.
        """
        copies = self.copies_of(*(i.groups[0] or 1 for i in inputs if i.axes[1:2] == ("copy",)))
        types = [_one_copy(given) for given in inputs]
        added: dict[str, TensorType] = {}
        for transform in self.apply:
            added.update(transform.added(*types))
            types = [transform.result(type_) for type_ in types]
        if twice := [name for i, name in enumerate(self.names) if name in (*self.names[:i], *added)]:
            raise ComponentError(
                f"the view gives `{twice[0]}` twice", hint="leave one out, or make another view of one of the fields"
            )
        found = {**dict(zip(self.names, types, strict=True)), **added}
        if copies == 1:
            return found
        return {
            name: t.with_(axes=(t.axes[0], "copy", *t.axes[1:]), groups=(copies, *t.groups))
            for name, t in found.items()
        }

    def fitted(self, *inputs: TensorType) -> View:
        """The view with its transforms fitted to inputs of these types."""
        types = [_one_copy(given) for given in inputs]
        apply: list[Transform] = []
        for transform in self.apply:
            apply.append(transform.fitted(*types))
            types = [transform.result(type_) for type_ in types]
        return self.model_copy(update={"apply": tuple(apply)})


def _one_copy(given: TensorType) -> TensorType:
    return given.member() if given.axes[1:2] == ("copy",) else given


@dataclass(frozen=True)
class Draw:
    """What the order of one epoch is a function of.

    `columns` holds a value for each sample (None where it is absent), under the name of the sampler's field that
    refers to it.
    """

    length: int
    batch_size: int
    seed: int
    epoch: int
    columns: Mapping[str, Sequence[Any]] = dataclass_field(default_factory=dict)


@dataclass(frozen=True)
class Streamed:
    """Whether a source without random access is mixed, and whether each lane leaves out its last, smaller batch."""

    shuffle: bool
    drop_last: bool


class Sampler(Component, kind="sampler"):
    """Order of a training pass: global batches of indices, a pure function of the draw.

    Fields of type `Ref[Sampled]` name what it reads of every sample: a field of the data or a stage's column.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {}
    """Fields that the sampler adds to what it draws, `sampler.NAME` in references."""
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Modalities that each reference may lead to; what is not named here may be of any."""

    def streamed(self) -> Streamed | None:
        """How a source without random access is read; None: this sampler cannot read one."""
        return None

    def batches(self, draw: Draw) -> Iterator[Any]:
        """The global batches of one epoch: indices, or `(indices, {"name": values})` with what `adds` names."""
        raise NotImplementedError

    def count(self, draw: Draw) -> int:
        """Batches in that epoch; found by drawing them unless a sampler knows better."""
        return sum(1 for _ in self.batches(draw))


class Tokenizer(Component, kind="tokenizer"):
    """Text to ids. `learn` reads the training texts once; what it returns (JSON) is stored with the model.

    A text has as many ids as `encode` returns. Rows are padded when they are joined, and the mask alone says what is
    padding: an id there is never read, and 0 may be an id like any other.
    """

    learns: ClassVar[bool] = False
    special: ClassVar[Mapping[str, int]] = {}
    """Ids with a meaning of their own, those that there are: `padding`, `begin`, `end`, `unknown`, `mask`."""

    def learn(self, texts: Iterable[str]) -> dict[str, Any]:
        return {}

    def size(self, state: Mapping[str, Any] | None) -> int:
        """Number of ids; with `state` None an upper bound, for shape checks before any data is read."""
        raise NotImplementedError

    def encode(self, text: str, state: Mapping[str, Any], *, length: int) -> list[int]:
        """At most `length` ids, begin and end included."""
        raise NotImplementedError

    def decode(self, ids: Sequence[int], state: Mapping[str, Any]) -> str:
        raise NotImplementedError


# --- model --------------------------------------------------------------------------------------------


class Freeze(BaseModel):
    """Which parameters of an encoder do not train: all but those that match `except`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    but: tuple[str, ...] = Field((), alias="except")


class Encoder(Component, kind="encoder"):
    """A node with inputs and outputs: towers, heads, fusions, decoders, miners, assignments.

    With weights: `build(*inputs)` returns an `nn.Module`; its `forward` takes `of` in order (a tensor
    [N, ...], or `Tokens` for sequences; an `Encoding` for a reference of type `Encoded`) and other reference
    fields by name. It returns a tensor (the output `pooled`) or a dict of outputs. Without weights: write
    `apply` with the same arguments. Written for rows [N, ...]: group axes are folded in and out by the core.
    """

    method: ClassVar[str] = "apply"
    accepts: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Modalities accepted by each input, in order; empty: anything."""
    axes: ClassVar[tuple[str, ...]] = ()
    """Group axes that the encoder takes itself instead of having them folded into rows."""
    untraceable: ClassVar[bool] = False
    """True where fake tensors cannot pass through: `check --shapes` then trusts `outputs`."""

    of: Refs[Pooled | RawField] = ()
    head: Encoder | None = None
    """A projection of the pooled vector; the vector before it stays readable as the output `features`."""
    tokens: Encoder | None = None
    """A projection of each token."""
    init: str | None = None
    """A safetensors file (any fsspec URL) that the weights start from."""
    freeze: bool | Freeze = False
    lr_scale: float = Field(1.0, ge=0)

    def scope(self) -> Scope:
        """`row` where a row's output depends on that row alone, else `batch`."""
        return "row"

    def batch_statistics(self) -> bool:
        """Whether a row encoder has batch norm inside: it then sees a micro-batch only, and `check` says so."""
        return False

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        """Declared outputs for declared inputs, in plain Python; sizes None where unknown."""
        axes = inputs[0].axes if inputs else ("sample",)
        groups = inputs[0].groups if inputs else ()
        return {"pooled": TensorType("vector", axes, (None,), groups=groups)}

    def presence(self, inputs: Sequence[Encoding]) -> Tensor | None:
        """Where the result is there: bool [N, *groups], None for everywhere. By default, where all inputs are."""
        present: Tensor | None = None
        for encoding in inputs:
            present = in_all(present, encoding.present)
        return present

    def taps(self) -> tuple[str, ...]:
        """Further outputs, produced when asked: `forward(..., taps=("layers.6",))` returns them in its dict."""
        return ()

    def learns(self) -> tuple[int, ...]:
        """Inputs (by place in `of`) whose raw training values `learn` must read before the model is built."""
        return ()

    def learn(self, index: int, values: Iterable[Any]) -> dict[str, Any]:
        """JSON state learnt from raw values of an input (a vocabulary), stored with the model."""
        return {}

    def preprocess(self, index: int, value: Any, state: Mapping[str, Any]) -> Any:
        """One raw value of input `index` as numpy array (deterministic): what one row of the input looks like.

        A list of ints becomes `Tokens` when rows are joined; a uint8 HWC image becomes float32 CHW in [0, 1]
        by default, where it is still one.
        """
        return value

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> torch.nn.Module:
        raise NotImplementedError

    @property
    def has_weights(self) -> bool:
        return type(self).build is not Encoder.build


class Score(Component, kind="score"):
    """Similarity of rows. Takes whole encodings, names in `needs` the outputs that it reads.

    `blocks(a, b)` gives [N, M], or `(s_ab [N, M], s_ba [M, N])` where the directions differ; `pairs(a, b)`
    gives [N]. Where the score is a dot product of vectors of each side, `vectors(a)` gives them [N, D] and
    the fused kernels are used. A score with weights has `build()`; its module has the same methods.
    """

    needs: ClassVar[tuple[str, ...]] = ("pooled",)

    def vectors(self, a: Encoding) -> Tensor | None:
        return None

    def blocks(self, a: Encoding, b: Encoding) -> Any:
        raise NotImplementedError

    def pairs(self, a: Encoding, b: Encoding) -> Tensor:
        raise NotImplementedError


class Active(BaseModel):
    """When a component takes part: from and until a step or an epoch (`{epochs: 5}`, `{steps: 300}`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    since: dict[Literal["steps", "epochs"], float] | None = Field(None, alias="from")
    until: dict[Literal["steps", "epochs"], float] | None = None

    def at(self, step: int, epoch: float) -> bool:
        now = {"steps": float(step), "epochs": epoch}
        begun = all(now[unit] >= value for unit, value in (self.since or {}).items())
        over = any(now[unit] >= value for unit, value in (self.until or {}).items())
        return begun and not over


class Loss(Component, kind="loss"):
    """What is minimised. Write `compute` with `of` in order ([N, D] tensors, or `Encoding`s for `Encoded`).

    A batch loss (the default): `compute` sees the global batch, rows present in all inputs, and returns one
    value per row [N] or a scalar. A row loss (`per_row = True`) runs inside a micro-batch and returns `value [b]`, or
    `(value [b], weight [b])`; the loss is sum(value * weight) / sum(weight) over the global batch.
    A loss may not call an encoder, keep state, or use the global generator (ask for `generator`).
    """

    method: ClassVar[str] = "compute"
    per_row: ClassVar[bool] = False
    axes: ClassVar[tuple[str, ...]] = ()
    """Group axes that inputs in `of` may have; `*` stands for any. The checker refuses others by name."""

    of: Refs[Pooled] = ()
    weight: Value = default(1.0)
    rows: Ref[Weight] | None = None
    """A weight or mask for each row."""
    active: Active | None = None

    def scope(self) -> Scope:
        return "row" if self.per_row else "batch"


class Memory(Component, kind="memory"):
    """Pure state between steps: `update(state, columns)` gives the next state; nothing here has gradient.

    `initial` gives the first state as a dict of tensors (all stored in checkpoints), `read` what a reference
    sees: columns [K, D], and `present` bool [K] or None; None as a whole while it is not ready.
    """

    of: RefMap[Pooled]
    rows: Ref[Weight] | None = None
    active: Active | None = None

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        raise NotImplementedError

    def update(self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The next state; `columns` hold the rows of the global batch that are present in all of them."""
        raise NotImplementedError

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding] | None:
        """One `Encoding` a column (its output is `pooled`), or None while not ready."""
        raise NotImplementedError


class Optimizer(Component, kind="optimizer"):
    """Builds a torch optimiser over parameter groups that carry `lr_scale` and `weight_decay`."""

    lr: Value = default(1e-3)

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """`groups`: dicts with `params`, `lr` and, where set, `weight_decay`."""
        raise NotImplementedError


# --- stages -------------------------------------------------------------------------------------------


class Reporter(Protocol):
    """What a stage tells the world while it works; no call raises, blocks for long or changes a result."""

    def progress(self, done: int, total: int, **metrics: float) -> None:
        """`done` of `total` units of work (steps, batches), with current values to show beside."""
        ...

    def table(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A small table, such as metrics; rows have equal keys."""
        ...

    def markdown(self, key: str, text: str) -> None:
        """A text in Markdown."""
        ...

    def link(self, key: str, url: str, text: str | None = None) -> None:
        """A path or URL worth opening, such as the report."""
        ...

    def should_stop(self) -> bool:
        """Whether to stop; asked between steps. A stage that is to stop saves its checkpoint, raises `StageStopped`."""
        ...


class StageStopped(Exception):
    """Raised by a stage that was asked to stop, after it has saved what it wants to go on from."""


class StageContext(Protocol):
    """What a running stage gets from the flow."""

    name: str
    spec: Any
    """The whole `mmflow.spec.Spec`."""
    scope: Any
    """The stage's `mmflow.spec.Scope`: its declaration, nodes, data and resolved references."""
    output: Path
    """A local directory; what is written there is published whole when `run` returns."""
    report: Reporter
    device: str
    workers: int

    def upstream(self, stage: str) -> Path:
        """The local directory with the outputs of a stage that this one reads."""
        ...

    def memo(self, identity: Mapping[str, Any], produce: Callable[[Path], None]) -> Path:
        """The directory stored under `identity`; made by `produce(directory)` where it is not there."""
        ...

    def encoder_identity(self, target: Any, data: str | None = None) -> Mapping[str, Any]:
        """What the encodings of one encoder depend on, data included (the entry `data`; the stage's own where
        None), for `memo`."""
        ...

    def save_partial(self, name: str, directory: Path) -> None: ...

    def load_partial(self) -> Path | None:
        """The newest checkpoint of an earlier, unfinished try at this very stage."""
        ...


class Stage(Component, kind="stage"):
    """A node of the plan: a plain function of its declaration and inputs. `outputs` maps names to types
    (`Model`, `Data`, `Column`, `Static`, `Files`, `Metrics`); the first is the main one."""

    gives: ClassVar[Mapping[str, str]] = {}

    def given(self) -> Mapping[str, str]:
        """The outputs of this declaration, where its fields name them."""
        return self.gives

    def refuses(self, source: Source) -> Iterator[tuple[str, str, str]]:
        """Why the stage cannot read its data: the field of the stage at fault, the reason, and the mend."""
        return iter(())

    def run(self, context: StageContext) -> None:
        """Write the outputs under `context.output`."""
        raise NotImplementedError


class Evaluator(Stage):
    """A stage that measures. Write `evaluate` with `of` in order, each an `Encoding` over all rows of `data`,
    and other fields by name (references to fields as tensors or lists, `score` built); on request `ids`
    (list of str) and `model` (an object with `encode`, to encode further values). Returns `Measured`.
    The flow embeds the data, or finds the encodings in the store, and calls it."""

    method: ClassVar[str] = "evaluate"
    gives: ClassVar[Mapping[str, str]] = {"metrics": "Metrics"}

    data: Ref[Data]
    of: Refs[Encoded] = ()
    model: Ref[Model] | None = None
    batch_size: int = outside_identity(256, ge=1)

    def evaluate(self, *args: Any, **kwargs: Any) -> Measured:
        raise NotImplementedError


class Service(Component, kind="service"):
    """Something outside that answers (a language model, a judge): `ask(request) -> response`."""

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        raise NotImplementedError


class Tracker(Component, kind="tracker"):
    """Receives logged metrics (an experiment tracker). It observes and is no part of any key."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        raise NotImplementedError


__all__ = [
    "Active",
    "Bank",
    "Draw",
    "Encoder",
    "Evaluator",
    "Freeze",
    "Labels",
    "Loss",
    "Memory",
    "Optimizer",
    "Reader",
    "Reporter",
    "Sampler",
    "Score",
    "Service",
    "ShardReader",
    "Source",
    "Stage",
    "StageContext",
    "StageStopped",
    "Streamed",
    "Streaming",
    "Tokenizer",
    "Tracker",
    "Transform",
    "View",
]
