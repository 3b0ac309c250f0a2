"""The base of synthetic data: a sample depends on (seed, split, its number) alone, and is drawn when asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from mmflow.plugin import Field, Source, numpy_generator


class Synthetic(Source):
    """Base of the sources of synthetic data: write `fields` and `draw`."""

    split: str = Field("train", min_length=1, description="any name; splits share no sample")
    size: int = Field(1000, ge=1, le=10**9, description="samples")
    seed: int = Field(0, ge=-(2**63), lt=2**63)

    def draw(self, generator: Any, wanted: Collection[str]) -> dict[str, Any]:
        """A sample; `wanted` are the fields asked for, others may be left out. Draws must not depend on `wanted`."""
        raise NotImplementedError

    def generator(self, index: int) -> Any:
        """The generator of sample `index`."""
        return numpy_generator(self.seed, self.use, self.split, index)

    def open(self) -> SyntheticReader:
        return SyntheticReader(self)


class SyntheticReader:
    """Draws samples; their ids are `USE-SEED-SPLIT-NUMBER`."""

    def __init__(self, source: Synthetic) -> None:
        self.source = source
        self._fields = frozenset(source.fields())

    def __len__(self) -> int:
        return self.source.size

    def id(self, index: int) -> str:
        return f"{self.source.use}-{self.source.seed}-{self.source.split}-{index}"

    def index(self, id: str) -> int:
        number = id.rpartition("-")[2]
        index = int(number) if number.isdecimal() else -1
        if not 0 <= index < len(self) or id != self.id(index):
            raise KeyError(id)
        return index

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.read(index)

    def read(self, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
        wanted = self._fields if fields is None else fields
        return {"id": self.id(index), **self.source.draw(self.source.generator(index), wanted)}

    def static(self) -> Mapping[str, Any]:
        return {}
