"""References: the typed fields through which components are wired, and the types they may name.

A reference is a dotted name, nothing else: `image`, `image.tokens`, `two.1`, `queue.after`,
`fit.image`. `Ref[T]` says what it must lead to. The graph, the plan, the checker and the keys read these
fields and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

LONGEST = 500
"""Characters at most of a reference."""
NAME = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")


Written: TypeAlias = Any
"""A value of a field as a spec or Python code gives it, before it is validated."""

Annotation: TypeAlias = Any
"""The annotation of a field."""


class RefType:
    """The target of a reference. Subclasses are markers; they are never made."""

    says: str = "a name"


class Encoded(RefType):
    """A whole encoding: every output a score or a fusion may need (`values.Encoding`)."""

    says = "an encoder"


class Pooled(RefType):
    """One vector a row: `[N, D]`."""

    says = "an encoder (its pooled vector)"


class TokenSequence(RefType):
    """Vectors of a sequence with their mask (`values.Tokens`)."""

    says = "token outputs (such as image.tokens)"


class Grid(RefType):
    """Vectors on a grid: `[N, H, W, D]`."""

    says = "a grid output (such as image.grid)"


class Array(RefType):
    """Numbers of any shape for each row, an output or tap such as maps of attention, but no sequence under a mask."""

    says = "an output or a field of numbers"


class Ids(RefType):
    """The names of rows. A memory stores them as numbers, equal for equal names."""

    says = "a field of ids"


class RawField(RefType):
    """A field of the data or of a view, as the loader gives it."""

    says = "a field or a view"


class Sampled(RefType):
    """A value of every sample that a sampler reads: a field of the data as its source gives it, or a stage's column."""

    says = "a field of the data or a stage's column"


class Labels(RefType):
    """Integers, one a row (or several, for multi-label data)."""

    says = "a field with labels"


class Index(RefType):
    """Rows of another node, as a miner gives them."""

    says = "an index output of a miner"


class Weight(RefType):
    """A weight or a boolean mask for each row."""

    says = "a field or output with one number a row"


class Bank(RefType):
    """A memory (`queue`, `queue.after`, `queue.key`)."""

    says = "a memory"


class Parameters(RefType):
    """The weights of an entry or of a component inside it, as a mapping from names to tensors, for penalties."""

    says = "a component with weights"


class Model(RefType):
    """A trained (or initial) model: the output of a train stage."""

    says = "a stage that gives a model, or init"


class Data(RefType):
    """A data source of the spec, or a stage's output of that type."""

    says = "an entry of data"


class Column(RefType):
    """A value for each row id: joins data by id."""

    says = "a stage's column"


class Static(RefType):
    """A value without the sample axis."""

    says = "a stage's static output"


class Files(RefType):
    """Files that a stage wrote."""

    says = "a stage's files"


class Metrics(RefType):
    """Measured numbers."""

    says = "a stage's metrics"


T = TypeVar("T")


def words(text: str) -> tuple[str, ...]:
    """The path that a dotted name is: the one place where references are cut."""
    return tuple(text.split("."))


class Ref(str, Generic[T]):
    """A dotted name; `T` is a `RefType` (or a union of them) that says what it must lead to."""

    __slots__ = ()

    @property
    def path(self) -> tuple[str, ...]:
        """The words of the name: `("image", "tokens")`."""
        return words(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Annotation, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        wanted = expected_of(get_args(source)[0]) if get_args(source) else "a name"

        def accept(raw: Written) -> Ref[RefType]:
            if not isinstance(raw, str) or len(raw) > LONGEST or not NAME.fullmatch(raw):
                inside = list(raw.values()) if isinstance(raw, Mapping) else []
                meant = len(inside) == 1 and isinstance(inside[0], str) and NAME.fullmatch(inside[0])
                hint = f"write {inside[0]}: one name, without a name of its own" if meant else ""
                context = {
                    "message": "not a reference",
                    "found": f"{raw!r}"[:LONGEST],
                    "expected": wanted,
                    "hint": hint,
                }
                raise PydanticCustomError("reference", "{message}", context)
            return raw if isinstance(raw, Ref) else Ref(raw)

        return core_schema.no_info_plain_validator_function(
            accept,
            metadata={"mmflow_reference": get_args(source)[:1]},
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{NAME.pattern}$"}


def reference_types(annotation: Annotation) -> tuple[type[RefType], ...]:
    """The marker types inside the argument of `Ref[...]` (a union gives several)."""
    if isinstance(annotation, type) and issubclass(annotation, RefType):
        return (annotation,)
    return tuple(t for part in get_args(annotation) for t in reference_types(part))


@cache
def reference_fields(component: type[BaseModel]) -> dict[str, tuple[type[RefType], ...]]:
    """The fields of a class that hold references (alone, in lists or in mappings), with the types they accept."""
    found = {name: _inside(field.annotation) for name, field in component.model_fields.items()}
    return {name: types for name, types in found.items() if types}


def _inside(annotation: Annotation) -> tuple[type[RefType], ...]:
    if get_origin(annotation) is Ref:
        return reference_types(get_args(annotation)[0])
    return tuple(t for part in get_args(annotation) for t in _inside(part))


def expected_of(annotation: Annotation) -> str:
    """In words, what a reference of this type must lead to."""
    return " or ".join(t.says for t in reference_types(annotation)) or "a name"


def listed(raw: Written) -> Written:
    """A single text as a list of one."""
    return (raw,) if isinstance(raw, str) else raw


def _named(raw: Written) -> Written:
    return {"value": raw} if isinstance(raw, str) else raw


Refs = Annotated[tuple[Ref[T], ...], BeforeValidator(listed)]
"""One reference or a list of them."""

RefMap = Annotated[dict[str, Ref[T]], BeforeValidator(_named)]
"""One reference (under the name `value`) or a mapping of them."""
