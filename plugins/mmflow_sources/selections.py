"""Sources made of one other source: some of its samples (`filter`, `subset`, `split`), or more fields (`join`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmflow.data.random import address, numpy_generator
from mmflow.data.samples import SkippedSample, describe, read_sample, with_random_access
from mmflow.plugin import ComponentError, Shared, Source, TensorType
from mmflow.plugin.kinds import Reader


def inner(source: Source) -> Source:
    """A source inside a source, which must have random access; a path is filled in by specs alone."""
    if isinstance(source, Shared):
        raise ComponentError(f"{source}: no source outside a spec", found=str(source), expected="{use: NAME, ...}")
    return with_random_access(source)


def opened(source: Source) -> Reader:
    """The reader of a source inside a source; that of one without files, which cannot change, is kept."""
    if type(inner(source)).fingerprint is Source.fingerprint:
        return _kept(_Asked(source.open), source.model_dump_json())
    return source.open()


class _Same:
    """A reader as a key: equal to itself alone."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.reader is self.reader

    def __hash__(self) -> int:
        return id(self.reader)


class _Asked:
    """How a reader is made: equal to any other, so that what stands beside it decides whether it is kept."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=16)
def _kept(asked: _Asked, declaration: str, *over: _Same) -> Any:
    """The reader of a declaration over these very readers: sources of files give the same one while nothing changes."""
    return asked.make()


class SelectedReader:
    """Samples of another reader at `places`, in that order."""

    def __init__(self, inner: Reader, places: Sequence[int]) -> None:
        self.inner, self.places = inner, places
        self._by_id: dict[str, int] | None = None

    @property
    def in_process(self) -> bool:
        return bool(getattr(self.inner, "in_process", False))

    def __len__(self) -> int:
        return len(self.places)

    def id(self, index: int) -> str:
        return self.inner.id(self.places[index])

    def index(self, id: str) -> int:
        if self._by_id is None:
            self._by_id = {self.id(index): index for index in range(len(self))}
        return self._by_id[id]

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.read(index)

    def read(self, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
        return read_sample(self.inner, self.places[index], fields)

    def static(self) -> Mapping[str, Any]:
        return self.inner.static()


class Selection(Source):
    """Base of the sources that give some samples of another one: write `places`."""

    of: Source

    def places(self, inner: Reader) -> Sequence[int]:
        raise NotImplementedError

    def fields(self) -> Mapping[str, TensorType]:
        return inner(self.of).fields()

    def open(self) -> SelectedReader:
        over = opened(self.of)

        def make() -> SelectedReader:
            places = self.places(over)
            if not len(places):
                raise ComponentError(f"{self.use} leaves no sample of {describe(self.of)}")
            return SelectedReader(over, places)

        return _kept(_Asked(make), self.model_dump_json(), _Same(over))

    def fingerprint(self) -> Any:
        return self.of.fingerprint()


class Range(BaseModel):
    """Numbers from `min` to `max`, both included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: float | None = None
    max: float | None = None

    def holds(self, value: Any) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


Condition = Range | tuple[str | int | float | bool, ...] | str | int | float | bool


class Filter(Selection, name="filter"):
    """Samples of `of` whose fields are as `where` says: a value, one of a list, or a range `{min: , max: }`.

    Classes are meant by their names or numbers. A sample without the field is left out. Opening reads these fields of
    every sample once.
    """

    example: ClassVar[str] = "{use: filter, of: {use: shapes}, where: {color: [red, blue], count: {max: 2}}}"

    where: dict[str, Condition] = Field(min_length=1)

    def places(self, inner: Reader) -> Sequence[int]:
        types = self.of.fields()
        unknown = next((name for name in self.where if name not in types), None)
        if unknown is not None:
            raise ComponentError(
                f"{describe(self.of)} has no field {unknown!r}", found=unknown, expected=f"one of: {', '.join(types)}"
            )
        wanted = {name: _meant(condition, types[name]) for name, condition in self.where.items()}
        kept = []
        for index in range(len(inner)):
            try:
                sample = read_sample(inner, index, wanted)
            except SkippedSample:
                continue
            if all(sample[name] is not None and holds(sample[name]) for name, holds in wanted.items()):
                kept.append(index)
        return kept


def _meant(condition: Condition, type_: TensorType) -> Any:
    if isinstance(condition, Range):
        return condition.holds
    options = condition if isinstance(condition, tuple) else (condition,)
    values = set()
    for option in options:
        if type_.names and isinstance(option, str):
            if option not in type_.names:
                raise ComponentError(
                    f"no class {option!r}", found=option, expected=f"one of: {', '.join(type_.names[:20])}"
                )
            values.add(type_.names.index(option))
        else:
            values.add(option)
    return values.__contains__


class Subset(Selection, name="subset"):
    """So many samples of `of` (`size`), or such a share of them: drawn at random by `seed`, or the first ones."""

    example: ClassVar[str] = "{use: subset, of: {use: digits}, share: 0.1}"

    size: int | None = Field(None, ge=1)
    share: float | None = Field(None, gt=0, le=1)
    order: Literal["random", "first"] = "random"
    seed: int = 0

    @model_validator(mode="after")
    def _one_of_both(self) -> Subset:
        if (self.size is None) == (self.share is None):
            raise ValueError("give either `size` or `share`")
        return self

    def places(self, inner: Reader) -> Sequence[int]:
        length = len(inner)
        size = min(length, self.size) if self.size is not None else max(1, round((self.share or 0) * length))
        if self.order == "first":
            return range(size)
        return sorted(numpy_generator(self.seed, "subset").choice(length, size, replace=False).tolist())


class Split(Selection, name="split"):
    """One part of `of`, by a hash of each sample's id: a sample stays in its part when others are added.

    `parts` gives shares that sum to 1. With `by`, samples with equal values of that field (a speaker, a patient) are in
    one part.
    """

    example: ClassVar[str] = "{use: split, of: {use: table, url: all.csv}, parts: {train: 0.9, test: 0.1}, part: train}"

    parts: dict[str, float] = Field({"train": 0.8, "test": 0.2}, min_length=1)
    part: str
    by: str | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _shares(self) -> Split:
        if self.part not in self.parts:
            raise ValueError(f"no part {self.part!r} among {', '.join(self.parts)}")
        if min(self.parts.values()) < 0 or abs(sum(self.parts.values()) - 1) > 1e-6:
            raise ValueError("the shares of the parts must sum to 1")
        return self

    def places(self, inner: Reader) -> Sequence[int]:
        low = 0.0
        for name, share in self.parts.items():
            if name == self.part:
                break
            low += share
        high = low + self.parts[self.part]
        last = self.part == list(self.parts)[-1]
        kept = []
        for index in range(len(inner)):
            where = address(self.seed, "split", self._key(inner, index)) / 2**63
            if low <= where and (where < high or last):
                kept.append(index)
        return kept

    def _key(self, inner: Reader, index: int) -> str:
        if self.by is None:
            return inner.id(index)
        try:
            return str(read_sample(inner, index, (self.by,))[self.by])
        except SkippedSample:
            return inner.id(index)
        except KeyError:
            raise ComponentError(f"{describe(self.of)} has no field {self.by!r}", found=self.by) from None


class Join(Source, name="join"):
    """The samples of `of` with the fields of `other` where the key is equal; what is not found is absent.

    `on` names the field that both have (the ids by default). `how: inner` leaves out samples that are not found.
    Where `other` has a key more than once, `several: random` takes one of its samples, drawn by `seed` and the id: a
    recording of a word, say, gets one of the pictures of its class, always the same.
    """

    example: ClassVar[str] = "{use: join, of: {use: table, url: a.csv}, other: {use: table, url: b.csv}, on: photo}"

    of: Source
    other: Source
    on: str = "id"
    how: Literal["left", "inner"] = "left"
    several: Literal["error", "random"] = Field("error", description="where `other` has a key more than once")
    seed: int = Field(0, description="draws among several")

    def fields(self) -> Mapping[str, TensorType]:
        mine, others = dict(inner(self.of).fields()), dict(inner(self.other).fields())
        for source, types in ((self.of, mine), (self.other, others)):
            if self.on not in types:
                raise ComponentError(f"{describe(source)} has no field {self.on!r}", found=self.on)
        both = sorted((set(mine) & set(others)) - {"id", self.on})
        if both:
            raise ComponentError(
                f"both sources of join have a field {both[0]!r}", hint="name the columns of one of them"
            )
        return {**others, **mine}

    def open(self) -> JoinReader:
        over = opened(self.of), opened(self.other)
        return _kept(_Asked(lambda: JoinReader(self, *over)), self.model_dump_json(), *map(_Same, over))

    def fingerprint(self) -> Any:
        return [self.of.fingerprint(), self.other.fingerprint()]


class JoinReader:
    """Looks the keys of `other` up once, when opened."""

    def __init__(self, source: Join, of: Reader, other: Reader) -> None:
        self.inner, self.other = of, other
        types = source.fields()
        self.mine, self.theirs = set(source.of.fields()), set(source.other.fields()) - {"id", source.on}
        self.on, self._names = source.on, types[source.on].names
        found: dict[Any, list[int]] = {}
        others_names = source.other.fields()[source.on].names
        for index in range(len(self.other)):
            key = self._key(self.other, index, others_names)
            if key in found and source.several == "error":
                raise ComponentError(
                    f"{describe(source.other)} has {source.on} {key!r} twice", found=str(key),
                    hint="`several: random` takes one of them for each sample",
                )  # fmt: skip
            if key is not None:
                found.setdefault(key, []).append(index)
        keys = [self._key(self.inner, index, self._names) for index in range(len(self.inner))]
        matches: list[int | None] = []
        for index, key in enumerate(keys):
            among = found.get(key, [])
            drawn = address(source.seed, "join", self.inner.id(index)) if len(among) > 1 else 0
            matches.append(among[drawn % len(among)] if among else None)
        if not any(match is not None for match in matches):
            mine = next((key for key in keys if key is not None), None)
            raise ComponentError(
                f"join finds nothing: no {source.on} is in both sources",
                found=f"{mine!r} in one and {next(iter(found), None)!r} in the other", expected="equal keys",
                hint="classes are compared by their names: `names` in `columns` can make them equal",
            )  # fmt: skip
        keep = [n for n, match in enumerate(matches) if match is not None or source.how == "left"]
        self.selected = SelectedReader(self.inner, keep)
        self.matches = [matches[n] for n in keep]

    @property
    def in_process(self) -> bool:
        return any(getattr(reader, "in_process", False) for reader in (self.inner, self.other))

    def __len__(self) -> int:
        return len(self.selected)

    def id(self, index: int) -> str:
        return self.selected.id(index)

    def index(self, id: str) -> int:
        return self.selected.index(id)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.read(index)

    def read(self, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
        mine = self.mine if fields is None else self.mine & set(fields)
        theirs = self.theirs if fields is None else self.theirs & set(fields)
        sample = dict(self.selected.read(index, mine))
        match = self.matches[index]
        if theirs:
            found = {} if match is None else read_sample(self.other, match, theirs)
            sample.update({name: found.get(name) for name in theirs})
        return sample

    def static(self) -> Mapping[str, Any]:
        return {**self.other.static(), **self.inner.static()}

    def _key(self, reader: Reader, index: int, names: Sequence[str]) -> Any:
        if self.on == "id":
            return reader.id(index)
        try:
            value = read_sample(reader, index, (self.on,))[self.on]
        except SkippedSample:
            return None
        return names[value] if names and value is not None else value
