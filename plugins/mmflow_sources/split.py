"""The source `split`: one part of another one, by a hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, Reader, SkippedSample, address, describe, read_sample
from mmflow_sources.nested import Selection, check_count


class Split(Selection, name="split"):
    """One part of `of`, by a hash of each sample's id: a sample stays in its part when others are added.

    `parts` gives shares that sum to 1. With `by`, samples with equal values of that field (a speaker, a patient) are in
    one part.
    """

    example: ClassVar[str] = "{use: split, of: {use: table, url: all.csv}, parts: {train: 0.9, test: 0.1}, part: train}"

    parts: dict[str, float] = Field({"train": 0.8, "test": 0.2}, min_length=1)
    part: str
    by: str | None = None
    seed: int = Field(0, ge=-(2**63), lt=2**63)

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
        check_count(self, self.of, len(inner))
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
            value = read_sample(inner, index, (self.by,))[self.by]
            # Numbers that floats hold exactly stay in the part that they had as floats.
            number = self.of.fields()[self.by].modality == "number"
            return str(float(value)) if number and isinstance(value, int) and abs(value) <= 2**53 else str(value)
        except SkippedSample:
            return inner.id(index)
        except KeyError:
            raise ComponentError(f"{describe(self.of)} has no field {self.by!r}", found=self.by) from None
