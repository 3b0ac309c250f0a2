"""`Component`: the frozen declaration that every name in a spec stands for.

A declaration holds fields and no tensor. A class made with `kind=` opens a kind; a class made with
`name=` is a component of its kind, found through the registry under that name. A field annotated with a
kind accepts, at any depth: a name (`score: cosine`), a mapping with `use` (`score: {use: maxsim}`), a
dotted path to another component of the spec (`score: parts.late`), or an instance.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from mmflow.plugin.bounds import within_bounds
from mmflow.plugin.references import LONGEST, Written, words
from mmflow.plugin.values import Json

DOTTED = re.compile(r"[A-Za-z_][\w-]*(\.[\w*-]+)+")


@dataclass(frozen=True)
class Shared:
    """A dotted path in a component field: that very component of the spec, weights included."""

    path: str

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the path: `("losses", "align", "temperature")`."""
        return words(self.path)

    def __str__(self) -> str:
        return self.path


class ComponentError(ValueError):
    """A component that cannot be found, imported or used; `hint` says how to fix it, `owner` which entry it is of."""

    owner: tuple[str, ...] = ()

    def __init__(self, message: str, *, found: str = "", expected: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.found, self.expected, self.hint = found, expected, hint


class Lookup(Protocol):
    """Finds the classes behind names: the registry, which holds components and so imports this module."""

    def get(self, kind: str, use: str) -> type[Component]: ...


_lookup: list[Callable[[], Lookup]] = []


def look_up_in(lookup: Callable[[], Lookup]) -> None:
    """Let fields find components by their names in what `lookup` gives."""
    _lookup[:] = [lookup]


class Component(BaseModel):
    """Base of all declarations: immutable, no unknown fields, light to import."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        protected_namespaces=(),
        defer_build=True,
        allow_inf_nan=False,
    )

    kind: ClassVar[str] = ""
    use: ClassVar[str] = ""
    method: ClassVar[str] = ""
    """Name of the method that the core calls with arguments named like the fields."""
    extra: ClassVar[str] = ""
    """The extra of `mmflow-kit` (or of the plugin's distribution) that brings `requires`."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Modules that must be importable before the component can be built."""
    observes: ClassVar[bool] = False
    """Whether it changes no result: no field is part of a key, and each may read the environment."""
    shared: ClassVar[bool] = True
    """Whether a dotted path to a component of the spec may stand for one of this kind."""
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Modalities that the references of a field may lead to, by the field; one that is not named may lead to any that
    its type allows."""
    provides: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    renamed: ClassVar[Mapping[str, str]] = {}
    """Old names of fields, each with today's: specs may still use them, and are told."""
    example: ClassVar[str] = ""
    """One line of YAML that shows the component in use."""

    _opens_kind: ClassVar[bool] = False

    def __init_subclass__(cls, *, name: str = "", kind: str = "") -> None:
        super().__init_subclass__()
        cls._opens_kind = bool(kind)
        if kind:
            cls.kind = kind
            cls.use = ""
        if name:
            cls.use = name

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        if not cls.__dict__.get("_opens_kind"):
            return handler(source)
        return core_schema.no_info_plain_validator_function(
            cls.accept,
            serialization=core_schema.plain_serializer_function_ser_schema(_dump, when_used="always"),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        if cls.__dict__.get("_opens_kind"):
            # A marker: the language's schema replaces it by a reference to the kind's components.
            return {"x-mmflow-kind": cls.kind}
        return handler(schema)

    @classmethod
    def shorthand(cls, raw: Written) -> Component | None:
        """A kind may read other plain values than names and mappings (a number, for `Value`)."""
        return None

    @classmethod
    def accept(cls, raw: Written) -> Written:
        """The value of a field of this kind, as a validated component or a `Shared` path."""
        one = with_article(cls.kind)
        if isinstance(raw, Component):
            if raw.kind != cls.kind:
                found = f"{raw.kind} {raw.use!r}"
                raise _refused(f"{with_article(raw.kind)} stands where {one} belongs", found=found)
            return raw
        if isinstance(raw, Shared):
            return cls._path(raw.path)
        if (short := cls.shorthand(raw)) is not None:
            return short
        if isinstance(raw, str):
            if DOTTED.fullmatch(raw[:LONGEST]):
                return cls._path(raw)
            return cls.component(raw).model_validate({})
        if isinstance(raw, Mapping):
            if "use" not in raw:
                found = f"a mapping without `use` ({', '.join(map(str, raw))})"
                expected = f"{{use: NAME, ...}} with the name of {one}"
                raise _refused(f"{one} needs `use`", found=found, expected=expected)
            name = raw["use"]
            if not isinstance(name, str):
                raise _refused("`use` is not a name", found=repr(name), expected=f"the name of {one}")
            return cls.component(name).model_validate({k: v for k, v in raw.items() if k != "use"})
        expected = f"the name of {one}, {{use: NAME, ...}} or a path"
        raise _refused(f"not {one}", found=f"{raw!r}", expected=expected)

    @classmethod
    def _path(cls, raw: str) -> Shared:
        if len(raw) > LONGEST:
            raise _refused("the path is too long", found=f"{len(raw):,} characters", expected=f"at most {LONGEST}")
        if not cls.shared:
            one = with_article(cls.kind)
            expected = f"the name of {one}, or {{use: NAME, ...}}"
            hint = f"{one} has no weights to share: write it here as well"
            raise _refused(f"`{raw}` is a path, which cannot stand for {one}", found=raw, expected=expected, hint=hint)
        return Shared(raw)

    @field_validator("*", mode="after")
    @classmethod
    def _within_bounds(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        return within_bounds(value, cls.model_fields[info.field_name])

    @classmethod
    def component(cls, name: str) -> type[Component]:
        """The class registered under `name` for this kind, as a pydantic error where there is none."""
        try:
            return _lookup[0]().get(cls.kind, name)
        except ComponentError as error:
            raise _refused(str(error), found=error.found, expected=error.expected, hint=error.hint) from None

    @model_serializer(mode="wrap")
    def _with_use(self, handler: SerializerFunctionWrapHandler) -> dict[str, Written]:
        return {"use": self.use, **handler(self)}

    def declared(self) -> Json:
        """The declaration as plain data that validates to an equal component."""
        return self.plain()

    def plain(self) -> Json:
        """The shortest plain data for the declaration; a mapping with `use`, where a kind has nothing shorter."""
        return self.model_dump(mode="json")

    def fingerprint(self) -> Json:
        """The stand-in in a key for the content of files that the fields name; None where they name none.

        The field of the path itself is then `outside_identity`. A field that is declared with `by_content` needs
        nothing here.
        """
        return None

    @classmethod
    def arguments(cls) -> tuple[str, ...]:
        """Names of the parameters of the component's method, in order, `self` left out."""
        function = getattr(cls, cls.method, None) if cls.method else None
        if function is None:
            return ()
        return tuple(p for p in inspect.signature(function).parameters if p != "self")

    def emits(self) -> tuple[str, ...]:
        """Names of further outputs of its encoder, for which its module emits a value a row (`emit`)."""
        return ()

    def withholds(self, request: str) -> str:
        """Why the component cannot have an argument that its kind may ask for; empty where it can."""
        return ""

    @classmethod
    def missing_modules(cls) -> tuple[str, ...]:
        """Modules of `requires` that this environment lacks."""
        from importlib.util import find_spec

        return tuple(m for m in cls.requires if find_spec(m) is None)


def nested_components(
    made: Written, place: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Component]]:
    """A component and all components inside its fields, with their places."""
    return ((at, found) for at, found in nested_models(made, place) if isinstance(found, Component))


def nested_models(
    made: Written, place: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], BaseModel]]:
    """A component and everything inside its fields that has fields, with their places."""
    inside: Iterable[tuple[str | int, Written]] = ()
    if isinstance(made, BaseModel):
        yield place, made
        inside = ((field.alias or name, getattr(made, name)) for name, field in type(made).model_fields.items())
    elif isinstance(made, Mapping):
        inside = made.items()
    elif isinstance(made, list | tuple):
        inside = enumerate(made)
    for name, value in inside:
        # Most fields hold a plain value, and components are walked often.
        if value is not None and not isinstance(value, str | int | float):
            yield from nested_models(value, (*place, name))


def with_article(kind: str) -> str:
    """A kind with its article, for messages."""
    return f"{'an' if kind[:1] in 'aeio' else 'a'} {kind}"


def first_sentence(doc: str | None) -> str:
    """The first sentence of a component's text, on one line."""
    paragraph = " ".join(inspect.cleandoc(doc or "").split("\n\n")[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return sentence + "." if stop else paragraph


def _refused(message: str, *, found: str = "", expected: str = "", hint: str = "") -> PydanticCustomError:
    # Braces would be read as placeholders of pydantic's message template.
    context = {"message": message, "found": found, "expected": expected, "hint": hint}
    return PydanticCustomError("component", "{message}", context)


def _dump(value: Written) -> Json:
    if isinstance(value, Shared):
        return value.path
    if isinstance(value, Component):
        return value.plain()
    return value


__all__ = ["Component", "ComponentError", "Shared"]
