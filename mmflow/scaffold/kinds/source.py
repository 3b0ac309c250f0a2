"""A source of data of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import Source, TensorType, numpy_generator

if TYPE_CHECKING:
    from mmflow.plugin import Reader


class CLASS(Source, name="NAME"):
    """Points of two classes, drawn around two centers.

    Say here where the samples come from. A source that reads a file annotates its path `by_content`.
    """

    example: ClassVar[str] = "{use: NAME, size: 200}"

    size: int = Field(200, ge=1, le=1_000_000, description="number of samples")
    seed: int = Field(0, ge=0, description="of the draws")

    def fields(self) -> Mapping[str, TensorType]:
        """The declared type of each field, found without reading a sample."""
        return {
            "point": TensorType("vector", size=(2,)),
            "label": TensorType("label", dtype="int64", names=("left", "right")),
        }

    def open(self) -> Reader:
        return _Reader(self)


class _Reader:
    """Samples by their place; loader processes get it by pickling."""

    def __init__(self, source: CLASS) -> None:
        self._source = source

    def __len__(self) -> int:
        return self._source.size

    def id(self, index: int) -> str:
        """The id of a sample: the same in every run, and no other sample's."""
        return f"{index:06d}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The values of one sample; an optional `read(index, fields)` reads only those that are wanted."""
        draw = numpy_generator(self._source.seed, "NAME", index)
        label = index % 2
        point = draw.normal((-1.0, 1.0)[label], 0.5, size=2).astype("float32")
        return {"point": point, "label": label}

    def static(self) -> dict[str, Any]:
        """Values without the sample axis, such as prompts of classes."""
        return {}
