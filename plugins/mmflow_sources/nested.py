"""Sources inside sources: their readers, and the base of those that give some samples of another one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

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

        return kept(Asked(make), self.model_dump_json(), Same(over))

    def fingerprint(self) -> Any:
        return self.of.fingerprint()
