"""The source `subset`: so many samples of another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, Reader, numpy_generator
from mmflow_sources.nested import Selection

MOST = 20_000_000
"""Samples that are drawn at random."""
LARGE = 200_000_000
"""Samples of a source among which numbers are drawn one by one."""


class Subset(Selection, name="subset"):
    """So many samples of `of` (`size`), or such a share of them: drawn at random by `seed`, or the first ones."""

    looks_at_all: ClassVar[bool] = False
    example: ClassVar[str] = "{use: subset, of: {use: digits}, share: 0.1}"

    size: int | None = Field(None, ge=1)
    share: float | None = Field(None, gt=0, le=1)
    order: Literal["random", "first"] = "random"
    seed: int = Field(0, ge=-(2**63), lt=2**63)

    @model_validator(mode="after")
    def _one_of_both(self) -> Subset:
        if (self.size is None) == (self.share is None):
            raise ValueError("give either `size` or `share`")
        return self

    def places(self, inner: Reader) -> Sequence[int]:
        length = len(inner)
        size = min(length, max(1, round((self.share or 0) * length)) if self.size is None else self.size)
        if self.order == "first":
            return range(size)
        if size > MOST:
            raise ComponentError(
                f"subset draws {size:,} of {length:,} samples, which are held as a list",
                found=f"{size:,}", expected=f"at most {MOST:,}", hint="`order: first` takes any number",
            )  # fmt: skip
        if length > LARGE and 50 * size > length:
            # numpy would hold all numbers to draw these.
            generator, drawn = numpy_generator(self.seed, "subset"), set[int]()
            while len(drawn) < size:
                drawn.update(generator.integers(length, size=min(size - len(drawn), 1_000_000)).tolist())
            return sorted(drawn)
        return sorted(numpy_generator(self.seed, "subset").choice(length, size, replace=False).tolist())
