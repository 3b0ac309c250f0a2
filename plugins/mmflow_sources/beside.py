"""The source `beside`: samples, and rows of another source that are no samples, such as a vector for each class."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from pydantic import Field

from mmflow.plugin import ComponentError, Reader, Source, TensorType, describe, read_sample
from mmflow_sources.nested import Asked, Same, check_count, inner, kept, opened

MOST = 200_000
"""Rows that are held beside samples."""
ARRAYS = ("vector", "series", "number")


class Beside(Source, name="beside"):
    """The samples of `of`, and beside them all rows of `other` on an axis of their own.

    A field of `other` is called `AXIS.FIELD`: with a vector for each class in `classes.npz`, `class.vector` is what
    `zero_shot` and other measures take in place of an encoder of class names. Rows stand in the order of their source,
    which for classes is that of their numbers.
    """

    example: ClassVar[str] = (
        "{use: beside, of: {use: arrays, url: clip.npz}, other: {use: arrays, url: classes.npz}, axis: class}"
    )

    of: Source
    other: Source
    axis: str = Field("class", pattern=r"^[A-Za-z_]\w*$", description="name of the axis of the rows of `other`")

    def fields(self) -> Mapping[str, TensorType]:
        mine, others = dict(inner(self.of).fields()), inner(self.other).fields()
        if self.axis == "sample" or any(self.axis in type_.axes for type_ in mine.values()):
            raise ComponentError(f"{describe(self.of)} has the axis {self.axis!r} already", hint="write another `axis`")
        static = {}
        for name, type_ in others.items():
            if type_.axes != ("sample",):
                raise ComponentError(f"{describe(self.other)}: {name} has the axes {', '.join(type_.axes)}")
            static[f"{self.axis}.{name}"] = type_.with_(axes=(self.axis,))
        return {**mine, **static}

    def open(self) -> BesideReader:
        over = opened(self.of), opened(self.other)
        return kept(Asked(lambda: BesideReader(self, *over)), self.model_dump_json(), *map(Same, over))

    def fingerprint(self) -> Any:
        return [self.of.fingerprint(), self.other.fingerprint()]


class BesideReader:
    """Reads the rows beside when they are first asked for."""

    def __init__(self, source: Beside, of: Reader, other: Reader) -> None:
        self.source, self.inner, self.other = source, of, other
        check_count(source, source.other, len(other), MOST)

    @property
    def in_process(self) -> bool:
        return any(getattr(reader, "in_process", False) for reader in (self.inner, self.other))

    def __len__(self) -> int:
        return len(self.inner)

    def id(self, index: int) -> str:
        return self.inner.id(index)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.inner[index]

    def read(self, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
        return read_sample(self.inner, index, fields)

    def static(self) -> Mapping[str, Any]:
        import numpy as np

        types = self.source.other.fields()
        rows = [read_sample(self.other, index, tuple(types)) for index in range(len(self.other))]
        found: dict[str, Any] = {}
        for name, type_ in types.items():
            values = [self.other.id(n) if name == "id" else row.get(name) for n, row in enumerate(rows)]
            if type_.modality in ARRAYS:
                if any(value is None for value in values):
                    raise ComponentError(f"{describe(self.source.other)}: a row has no {name}, and all rows need one")
                found[name] = np.asarray(values, dtype=np.float32)
            else:
                found[name] = values
        return {**self.inner.static(), **{f"{self.source.axis}.{name}": values for name, values in found.items()}}
