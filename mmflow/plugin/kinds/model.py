"""Kinds that learn: encoders, scores, losses, memories, optimizers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from mmflow.plugin.component import Component
from mmflow.plugin.kinds.parameters import Constraints, Freeze, Lora
from mmflow.plugin.marks import by_content, default
from mmflow.plugin.numbers import Scheduled, Value
from mmflow.plugin.references import (
    Column,
    Encoded,
    Grid,
    Ids,
    Index,
    Parameters,
    Pooled,
    RawField,
    Ref,
    RefMap,
    Refs,
    Static,
    TokenSequence,
    Weight,
)
from mmflow.plugin.values import Encoding, RawValue, State, TensorType, in_all

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Scope = Literal["row", "batch"]


class Encoder(Component, kind="encoder"):
    """A node with inputs and outputs: towers, heads, fusions, decoders, miners, assignments.

    With weights: `build(*inputs)` returns an `nn.Module`; its `forward` takes `of` in order (a tensor
    [N, ...], or `Tokens` for sequences; an `Encoding` for a reference of type `Encoded`) and other reference
    fields by name. It returns a tensor (the output `pooled`) or a dict of outputs. Without weights: write
    `apply` with the same arguments. Written for rows [N, ...]: group axes are folded in and out by the core. A row
    encoder that asks for `generator` is called with one row at a time, so that each draws at the address of its id.
    """

    method: ClassVar[str] = "apply"
    accepts: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Modalities accepted by each input, in order; empty: anything."""
    axes: ClassVar[tuple[str, ...]] = ()
    """Group axes that the encoder takes itself instead of having them folded into rows."""
    paired: ClassVar[bool] = True
    """False where inputs of several streams may have rows of their own: no row of one belongs to a row of another."""
    untraceable: ClassVar[bool] = False
    """True where fake tensors cannot pass through: `check --shapes` then trusts `outputs`."""

    of: Refs[Pooled | RawField] = ()
    rows: Refs[Index] = Field(
        default=(),
        description="the rows of its inputs that it takes: an index output of a miner for each; its rows are those",
    )
    passes: Literal["joint", "separate"] = Field(
        default="joint",
        description="separate: the members of groups (copies, frames) go through one after another, head and tokens "
        "included, so that statistics of a batch do not mix them",
    )
    head: Encoder | None = None
    """A projection of the pooled vector; the vector before it stays readable as the output `features`."""
    tokens: Encoder | None = None
    """A projection of each token."""
    init: str | None = by_content(None)
    """A safetensors file (any fsspec URL) that the weights start from."""
    freeze: StrictBool | Literal["body"] | Freeze = Field(
        default=False,
        description="true: the encoder with head, tokens and learned numbers; body: all but head and tokens",
    )
    lr_scale: float = Field(default=1.0, ge=0)
    constrain: Constraints = Field(
        default=(), description="where its weights stay; `head` and `tokens` say it themselves"
    )
    lora: Lora | None = Field(
        default=None, description="low-rank adapters, which train in place of the encoder's own weights"
    )

    def scope(self) -> Scope:
        """`row` where a row's output depends on that row alone, else `batch`."""
        return "row"

    def draws(self) -> bool:
        """Whether it draws from torch's own generator while it trains (dropout): `micro_batch_size` is then part of the
        result. Draws from a `generator` that the method asks for are not meant: they have addresses by row."""
        return False

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

    def learn(self, index: int, values: Iterable[RawValue]) -> dict[str, Any]:
        """JSON state learned from raw values of an input (a vocabulary), stored with the model."""
        return {}

    def preprocess(self, index: int, value: RawValue, state: State) -> RawValue:
        """One raw value of input `index` as numpy array (deterministic): what one row of the input looks like.

        A list of ints becomes `Tokens` when rows are joined; a uint8 HWC image becomes float32 CHW in [0, 1]
        by default, where it is still one.
        """
        return value

    def build(self, *inputs: TensorType, state: State) -> torch.nn.Module:
        raise NotImplementedError

    def forms(self) -> tuple[str, ...]:
        """Libraries in whose own form `export` writes it, such as `open_clip`."""
        return ()

    def export(self, form: str, folder: Path, parts: Sequence[Exported]) -> str:
        """Write `parts`, encoders of one model with this one first, into `folder`, so that the library `form` alone
        gives their vectors; returns lines of Python that do so. Raises `ComponentError` where the form cannot hold
        them."""
        raise NotImplementedError

    @property
    def has_weights(self) -> bool:
        return type(self).build is not Encoder.build


class Exported(NamedTuple):
    """An encoder on its way out, with its trained modules, in which adapters are merged into the weights."""

    encoder: Encoder
    module: torch.nn.Module
    head: torch.nn.Module | None


class Application(Encoder):
    """An application of weights that another encoder owns; `of` defaults to the input of that encoder.

    Subclasses say in class attributes what they do with the weights.
    """

    shares: ClassVar[Literal["module", "structure"]] = "structure"
    """`module`: the very module of the other encoder runs; `structure`: a module of its own, built alike."""
    trains: ClassVar[bool] = True
    """Whether gradients reach a module of its own; with a shared module the other encoder decides."""
    follows: ClassVar[bool] = False
    """Whether the module moves with the other encoder's weights while these train."""

    weights: Ref[Encoded | Parameters]
    of: Refs[TokenSequence | Grid | Index | Pooled | RawField] = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    """Anything that the encoder behind `weights` accepts; its declaration says in which form it is read."""


class Score(Component, kind="score"):
    """Similarity of rows. Takes whole encodings, names in `needs` the outputs that it reads.

    `blocks(a, b)` gives [N, M], or `(s_ab [N, M], s_ba [M, N])` where the directions differ; `pairs(a, b)`
    gives [N]. Where the score is a dot product of vectors of each side, `vectors(a)` gives them [N, D] and
    the fused kernels are used. A score with weights has `build()`; its module has the same methods.
    """

    needs: ClassVar[tuple[str, ...]] = ("pooled",)

    constrain: Constraints = Field((), description="where its weights stay")

    def vectors(self, a: Encoding) -> Tensor | None:
        return None

    def blocks(self, a: Encoding, b: Encoding) -> Tensor | tuple[Tensor, Tensor]:
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
    """A value to minimize. Write `compute` with `of` in order ([N, D] tensors, or `Encoding`s for `Encoded`).

    A batch loss (the default): `compute` sees the global batch, rows present in all inputs, and returns one
    value per row [N] or a scalar. A row loss (`per_row = True`) runs inside a micro-batch and returns `value [b]`, or
    `(value [b], weight [b])`; the loss is sum(value * weight) / sum(weight) over the global batch.
    A loss may not call an encoder, keep state, or use the global generator: it asks for `generator`. A row loss that
    does is called with one row at a time, so that each draws at the address of its id.
    """

    method: ClassVar[str] = "compute"
    per_row: ClassVar[bool] = False
    axes: ClassVar[tuple[str, ...]] = ()
    """Group axes that inputs in `of` may have; `*` stands for any. The checker refuses others of a batch loss by name;
    a row loss has them folded into rows, each member one."""
    paired: ClassVar[bool] = True
    """False where inputs of several streams may have rows of their own: no row of one belongs to a row of another."""
    refuses_values: ClassVar[bool] = False
    """Whether `compute` refuses whole numbers by their values (a class beyond the logits): a check calls it with those
    of some rows, and zeros for other numbers."""

    of: Refs[Pooled] = ()
    weight: Value = default(1.0)
    rows: Ref[Weight] | None = None
    """A weight or mask for each row."""
    dims: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field(
        (), description="lengths at which vectors are read: the value is the sum over their first numbers"
    )
    dim_weights: tuple[Annotated[float, Field(ge=0, le=1e6)], ...] = Field(
        (), description="a weight for each of `dims`; 1 by default"
    )
    active: Active | None = None
    constrain: Constraints = Field((), description="where its weights stay")

    @model_validator(mode="after")
    def _weight_for_each(self) -> Loss:
        if self.dim_weights and len(self.dim_weights) != len(self.dims):
            raise ValueError(f"dim_weights: {len(self.dim_weights)} weights for {len(self.dims)} of `dims`")
        return self

    def scope(self) -> Scope:
        return "row" if self.per_row else "batch"

    def fits(self, of: Sequence[TensorType], fields: Mapping[str, TensorType]) -> None:
        """Raise `ComponentError` where inputs of these declared types, and of these by field, cannot be minimized.

        In plain Python, before there is any tensor: what `compute` would find out only in training.
        """

    def in_batch_negatives(self) -> bool:
        """Whether every other row of a batch counts as a wrong answer, one of equal content too."""
        return False


class Memory(Component, kind="memory"):
    """Pure state between steps: `update(state, columns)` gives the next state; nothing here has gradient.

    Further parameters of `update` come by name: fields, and `generator`, `clock`, `step` and `ids` on request.
    `initial` gives the first state as a dict of tensors (all stored in checkpoints), `read` what a reference sees:
    columns [K, D], and `present` bool [K] or None; None as a whole while it is not ready.
    """

    model_config = ConfigDict(populate_by_name=True)

    method: ClassVar[str] = "update"

    of: RefMap[Pooled | Ids | RawField]
    rows: Ref[Weight] | None = None
    active: Active | None = None
    content: RefMap[Static | Column] = Field(
        default={}, alias="initial", description="values of another stage that it begins with, by column"
    )

    @model_validator(mode="after")
    def _same_columns(self) -> Memory:
        if self.content and set(self.content) != set(self.of):
            raise ValueError(f"`initial` gives {', '.join(self.content)}, and the columns are {', '.join(self.of)}")
        return self

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        raise NotImplementedError

    def begun(self, state: Mapping[str, Tensor], content: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first state with values of another stage in it, [K, ...] by column; by default as if they were rows of a
        batch."""
        return self.update(state, content)

    def update(self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The next state; `columns` hold the rows of the global batch that are present in all of them."""
        raise NotImplementedError

    def gives(self, columns: Mapping[str, TensorType]) -> Mapping[str, TensorType]:
        """Columns that readers may name beside those of `of`, such as counts: their types, without axes."""
        return {}

    def waits(self, state: Mapping[str, Tensor]) -> bool:
        """Whether it wants batches before the first step, encoded by the untrained model; asked again after each."""
        return False

    def kept(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The state as it is kept between two steps: equal to `state` for readers, perhaps in another place.

        Here, and nowhere else, a memory may write into tensors that it was given.
        """
        return state

    def entries(self) -> int | None:
        """How many rows it has for readers once it is ready; None where that may be any number. For the check."""
        return None

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding] | None:
        """One `Encoding` a column, those of `gives` too (its output is `pooled`), or None while not ready."""
        raise NotImplementedError


class Optimizer(Component, kind="optimizer"):
    """Builds a torch optimizer over parameter groups that carry `lr_scale` and `weight_decay`."""

    shared: ClassVar[bool] = False

    lr: Scheduled = default(1e-3)

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """`groups`: dicts with `params`, `lr` and, where set, `weight_decay`."""
        raise NotImplementedError
