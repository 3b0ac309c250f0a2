"""Sources inside sources: their readers, and the base of those that give some samples of another one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar

from mmflow.plugin import ComponentError, Reader, Shared, Source, TensorType, describe, read_sample, with_random_access


def inner(source: Source) -> Source:
    """A source inside a source, which must have random access; a path is filled in by specs alone."""
    if isinstance(source, Shared):
        raise ComponentError(f"{source}: no source outside a spec", found=str(source), expected="{use: NAME, ...}")
    return with_random_access(source)


def opened(source: Source) -> Reader:
    """The reader of a source inside a source; that of one without files, which cannot change, is kept."""
    if type(inner(source)).fingerprint is Source.fingerprint:
        return kept(Asked(source.open), source.model_dump_json())
    return source.open()


EAGER = 50_000
"""Drawn samples up to which a selection is made when it is opened, so that a fault shows at once."""
MOST = 20_000_000
"""Samples that a source looks at one by one."""


def drawn(source: Source) -> bool:
    """Whether the samples of a source are drawn when asked for, so that there may be any number of them."""
    inside = [value for name in type(source).model_fields for value in _listed(getattr(source, name))]
    if members := [value for value in inside if isinstance(value, Source)]:
        return all(map(drawn, members))
    return type(source).fingerprint is Source.fingerprint


def check_count(source: Source, of: Source, count: int, most: int = MOST) -> None:
    """Refuse a source that looks at every sample of another one where they are too many; raises `ComponentError`."""
    if count > most:
        raise ComponentError(
            f"{source.use} looks at every sample of {describe(of)}, {count:,} of them",
            found=f"{count:,} samples", expected=f"at most {most:,}",
            hint="sources of synthetic data have splits of their own, `split: test`" if drawn(of) else "",
        )  # fmt: skip


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)


class Same:
    """A reader as a key: equal to itself alone."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.reader is self.reader

    def __hash__(self) -> int:
        return id(self.reader)


class Asked:
    """How a reader is made: equal to any other, so that what stands beside it decides whether it is kept."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Asked)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=16)
def kept(asked: Asked, declaration: str, *over: Same) -> Any:
    """The reader of a declaration over these very readers: sources of files give the same one while nothing changes."""
    return asked.make()


class SelectedReader:
    """Samples of another reader at certain places, in that order; `find` gives them when they are first needed."""

    def __init__(self, inner: Reader, places: Sequence[int] | None, find: Callable[[], Sequence[int]] | None = None):
        self.inner, self._places, self._find = inner, places, find
        self._by_id: dict[str, int] | None = None

    @property
    def places(self) -> Sequence[int]:
        if self._places is None:
            assert self._find is not None
            self._places = self._find()
        return self._places

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

    looks_at_all: ClassVar[bool] = True
    """Whether `places` looks at every sample, so that very many are not looked at before they are needed."""

    def places(self, inner: Reader) -> Sequence[int]:
        raise NotImplementedError

    def fields(self) -> Mapping[str, TensorType]:
        return inner(self.of).fields()

    def open(self) -> SelectedReader:
        over = opened(self.of)

        def make() -> SelectedReader:
            if self.looks_at_all and drawn(self.of) and len(over) > EAGER:
                check_count(self, self.of, len(over))
                return SelectedReader(over, None, partial(self._some, over))
            return SelectedReader(over, self._some(over))

        return kept(Asked(make), self.model_dump_json(), Same(over))

    def fingerprint(self) -> Any:
        return self.of.fingerprint()

    def _some(self, over: Reader) -> Sequence[int]:
        places = self.places(over)
        if not len(places):
            raise ComponentError(f"{self.use} leaves no sample of {describe(self.of)}")
        return places
