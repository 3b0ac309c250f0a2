"""Kinds between a URL and a batch: sources, views, samplers, tokenizers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.references import RawField, Refs
from mmflow.plugin.values import Json, RawValue, State, TensorType


class Reader(Protocol):
    """An opened source: random access to samples. Picklable, so that loader workers can have their own.

    Optional: `read(index, fields)` reads only what is wanted, `index(id)` finds a sample by its id, and a true
    `in_process` says that the samples live in this process, so that no worker could read them.
    """

    def __len__(self) -> int: ...

    def id(self, index: int) -> str:
        """The stable id of sample `index`, without reading it where that is possible."""
        ...

    def __getitem__(self, index: int) -> Mapping[str, RawValue]:
        """Raw fields: images as uint8 HWC arrays, text as str, labels as int, None where absent."""
        ...

    def static(self) -> Mapping[str, RawValue]:
        """Fields without the sample axis."""
        ...


class Streaming(BaseModel):
    """How a source without random access is read: its shards are assigned to partitions, and batches come from the
    partitions in turn.

    Give fewer partitions than shards; as many worker processes as partitions can be kept busy. More `open` shards and
    a larger `buffer` shuffle better and take more memory: partitions times `buffer` raw samples, partitions times
    `open` files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    renamed: ClassVar[Mapping[str, str]] = {"lanes": "partitions"}

    partitions: int = Field(8, ge=1, le=256)
    open: int = Field(2, ge=1, le=64, description="shards that a partition reads side by side")
    buffer: int = Field(256, ge=1, description="raw samples that a partition draws from")
    samples: int | None = Field(None, ge=1, description="in an epoch, where known: `epochs` and schedules need it")


@runtime_checkable
class ShardReader(Protocol):
    """An opened source without random access: its shards are read from front to back. Picklable.

    Optional: a true `in_process`, as for `Reader`.
    """

    def shards(self) -> Sequence[str]:
        """Names of the shards, in order."""
        ...

    def shard(self, number: int, fields: Collection[str]) -> Iterator[tuple[str, RawValue]]:
        """Ids and raw samples of a shard, in order; `decode` will ask for no other fields of them than `fields`."""
        ...

    def decode(self, id: str, raw: RawValue, fields: Collection[str]) -> Mapping[str, RawValue]:
        """The fields of a raw sample, as a `Reader` gives them; raises `SkippedSample` as the policy says."""
        ...

    def static(self) -> Mapping[str, RawValue]:
        """Fields without the sample axis."""
        ...


@dataclass(frozen=True)
class LeftOut:
    """Parts of a source that belong to no sample: how many, in which unit, for what reason, and the first names."""

    count: int
    unit: str
    reason: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = ", ".join(self.names) + (", ..." if self.count > len(self.names) else "")
        return f"{self.count} {self.unit}{'s' if self.count > 1 else ''} left out, {self.reason}: {names}"


class Source(Component, kind="source"):
    """Where samples come from. Torch-free; `fields` and `fingerprint` may read headers and listings."""

    renamed_columns: ClassVar[Mapping[str, str]] = {}
    """Old names of columns, each with today's: references may still use them, and are told."""

    def fields(self) -> Mapping[str, TensorType]:
        """Declared fields. Raises `ComponentError` where files are missing or malformed."""
        raise NotImplementedError

    def open(self) -> Any:
        """A `Reader`; a `ShardReader` where `streaming` says how to read it."""
        raise NotImplementedError

    def streaming(self) -> Streaming | None:
        """How samples are read in order, where there is no random access to them."""
        return None

    def fingerprint(self) -> Json:
        """The stand-in for the content in a key (sizes, etags, hashes), beside the fields; procedural: None."""
        return None

    def spoken_of(self) -> Source:
        """The source that messages name: itself, or the one that it only adds something to."""
        return self

    def left_out(self) -> Sequence[LeftOut]:
        """Files, members and columns that belong to no sample, counted by reason; those of the sources inside."""
        return [found for source in self._inside() for found in source.left_out()]

    def caveats(self) -> Sequence[str]:
        """Sentences that a reader of results must know, such as that large files are known by size and time."""
        return [found for source in self._inside() for found in source.caveats()]

    def _inside(self) -> Iterator[Source]:
        for name in type(self).model_fields:
            value = getattr(self, name)
            yield from (one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, Source))


class Transform(Component, kind="transform"):
    """One step of a view: maps raw values, drawing from `generator` (a numpy Generator).

    `apply(value, generator)` takes one sample's value (in a view of several fields a mapping of those that are there)
    and returns the new one, or `(value, {"name": fact})` to add fields that say what it did. With `per_batch`, it takes
    a list with one value a row of the global batch (in a view of several fields a mapping of all, None for what is
    absent), None where nothing of the row is there, and returns such a list, or `(values, {"name": [fact a row]})`.
    `generator` is None in evaluation: the deterministic form (a center crop, no flip, nothing mixed); it is there where
    the view says `draws: always`.
    """

    shared: ClassVar[bool] = False

    adds: ClassVar[Mapping[str, TensorType]] = {}
    per_batch: ClassVar[bool] = False
    """True where a row's result depends on the other rows of the batch (mixup)."""

    def apply(self, value: RawValue, generator: Any) -> RawValue:
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
    draws: Literal["training", "always"] = Field(
        "training", description="always: in evaluation too, at the ids of the rows; else the deterministic form there"
    )

    @model_validator(mode="after")
    def _alone(self) -> View:
        mixing = next((transform.use for transform in self.apply if transform.per_batch), None)
        if self.draws == "always" and mixing is not None:
            raise ValueError(f"draws: always goes by single rows, and {mixing} mixes the rows of a batch")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Under what name each field of `of` is given: the last word of its reference."""
        return tuple(next((word for word in reversed(of.path) if not word.isdecimal()), of) for of in self.of)

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
        if any(given.static for given in inputs):
            raise ComponentError(
                "a view changes the values of samples, and one of its inputs is a static field, which samples do not "
                "have", hint="let an encoder read it as it is",
            )  # fmt: skip
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
    """The facts on which alone the order of one epoch depends.

    `columns` holds a value for each sample (None where it is absent), under the name of the sampler's field that
    refers to it.
    """

    length: int
    batch_size: int
    seed: int
    epoch: int
    columns: Mapping[str, Sequence[RawValue]] = dataclass_field(default_factory=dict)


@dataclass(frozen=True)
class Streamed:
    """Whether a source without random access is shuffled, and whether each partition leaves out its last, smaller
    batch."""

    shuffle: bool
    drop_last: bool


class Sampler(Component, kind="sampler"):
    """Order of a training pass: global batches of indices, a pure function of the draw.

    Fields of type `Ref[Sampled]` name what it reads of every sample: a field of the data or a stage's column.
    """

    shared: ClassVar[bool] = False

    axes: ClassVar[tuple[str, ...]] = ()
    """Group axes that what it reads may have, by name; `*` is any."""
    adds: ClassVar[Mapping[str, TensorType]] = {}
    """Fields that the sampler adds to what it draws, `sampler.NAME` in references."""

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
    """Text to ids. `learn` reads the training texts once; its result (JSON) is stored with the model.

    A text has as many ids as `encode` returns. Rows are padded when they are joined, and the mask alone says what is
    padding: an id there is never read, and 0 may be an id like any other.
    """

    shared: ClassVar[bool] = False

    learns: ClassVar[bool] = False
    special: ClassVar[Mapping[str, int]] = {}
    """Ids with a meaning of their own, those that there are: `padding`, `begin`, `end`, `unknown`, `mask`."""

    def learn(self, texts: Iterable[str]) -> dict[str, Any]:
        return {}

    def size(self, state: State | None) -> int:
        """Number of ids; with `state` None an upper bound, for shape checks before any data is read."""
        raise NotImplementedError

    def encode(self, text: str, state: State, *, length: int) -> list[int]:
        """At most `length` ids, begin and end included."""
        raise NotImplementedError

    def decode(self, ids: Sequence[int], state: State) -> str:
        raise NotImplementedError
