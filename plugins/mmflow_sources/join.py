"""The source `join`: samples with the fields of another source, by a key."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, Reader, SkippedSample, Source, TensorType, address, describe, read_sample
from mmflow_sources.nested import MOST, Asked, Same, SelectedReader, check_count, drawn, inner, kept, opened

JOINED = 200_000
"""Samples that are drawn to find their keys, when the source is opened."""
FILES = ("image", "audio", "video")


class Join(Source, name="join"):
    """The samples of `of` with the fields of `other` where the key is equal, absent where it is not found.

    `by` names the field that both have (the ids by default). `how: inner` leaves out samples that are not found.
    Where `other` has a key more than once, `several: random` takes one of its samples, drawn by `seed` and the id: a
    recording of a word, say, gets one of the images of its class, always the same.
    """

    example: ClassVar[str] = "{use: join, of: {use: table, url: a.csv}, other: {use: table, url: b.csv}, by: photo}"

    # YAML 1.1 reads the key `on` as true.
    renamed: ClassVar[Mapping[str, str]] = {"on": "by"}

    of: Source
    other: Source
    by: str = "id"
    how: Literal["left", "inner"] = "left"
    several: Literal["error", "random"] = Field("error", description="where `other` has a key more than once")
    seed: int = Field(0, ge=-(2**63), lt=2**63, description="draws among several")

    def fields(self) -> Mapping[str, TensorType]:
        mine, others = dict(inner(self.of).fields()), dict(inner(self.other).fields())
        for source, types in ((self.of, mine), (self.other, others)):
            if self.by not in types:
                raise ComponentError(f"{describe(source)} has no field {self.by!r}", found=self.by)
            if types[self.by].modality in FILES:
                raise ComponentError(
                    f"join cannot compare {types[self.by].modality}s: the field {self.by!r} of {describe(source)} is "
                    "the content of files",
                    found=self.by, expected="a field of texts, numbers or classes",
                    hint=f"to join by the files' names, write `id: {self.by}` in both tables and `by: id`",
                )  # fmt: skip
        both = sorted((set(mine) & set(others)) - {"id", self.by})
        if both:
            raise ComponentError(
                f"both sources of join have a field {both[0]!r}", hint="name the columns of one of them"
            )
        return {**others, **mine}

    def open(self) -> JoinReader:
        over = opened(self.of), opened(self.other)
        return kept(Asked(lambda: JoinReader(self, *over)), self.model_dump_json(), *map(Same, over))

    def fingerprint(self) -> Any:
        return [self.of.fingerprint(), self.other.fingerprint()]


class JoinReader:
    """Looks the keys of `other` up once, when opened."""

    def __init__(self, source: Join, of: Reader, other: Reader) -> None:
        self.inner, self.other = of, other
        types = source.fields()
        self.mine, self.theirs = set(source.of.fields()), set(source.other.fields()) - {"id", source.by}
        self.by, self._names = source.by, types[source.by].names
        for part, reader in ((source.of, of), (source.other, other)):
            check_count(source, part, len(reader), JOINED if drawn(part) and source.by != "id" else MOST)
        found: dict[Any, list[int]] = {}
        others_names = source.other.fields()[source.by].names
        for index in range(len(self.other)):
            key = self._key(self.other, index, others_names)
            if key in found and source.several == "error":
                raise ComponentError(
                    f"{describe(source.other)} has {source.by} {key!r} twice", found=str(key),
                    hint="`several: random` takes one of them for each sample",
                )  # fmt: skip
            if key is not None:
                found.setdefault(key, []).append(index)
        keys = [self._key(self.inner, index, self._names) for index in range(len(self.inner))]
        matches: list[int | None] = []
        for index, key in enumerate(keys):
            among = found.get(key, [])
            number = address(source.seed, "join", self.inner.id(index)) if len(among) > 1 else 0
            matches.append(among[number % len(among)] if among else None)
        if not any(match is not None for match in matches):
            mine = next((key for key in keys if key is not None), None)
            raise ComponentError(
                f"join finds nothing: no {source.by} is in both sources",
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
        if self.by == "id":
            return reader.id(index)
        try:
            value = read_sample(reader, index, (self.by,))[self.by]
        except SkippedSample:
            return None
        if names and value is not None:
            return names[value]
        if value is not None and not isinstance(value, Hashable):
            raise ComponentError(f"join cannot compare values of {self.by!r}, which are lists", found=self.by)
        return value
