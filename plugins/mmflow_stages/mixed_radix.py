"""The stage `mixed_radix`: several columns of numbers as one code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, model_validator

from mmflow.plugin import Column, ComponentError, Field, PositiveInt, Refs, Stage, StageContext, StageInputs, TensorType

Bases = Annotated[
    tuple[PositiveInt, ...],
    BeforeValidator(
        lambda raw: (raw,) if isinstance(raw, int) else raw,
        json_schema_input_type=PositiveInt | tuple[PositiveInt, ...],
    ),
]


DIGITS = ("label", "number", "index")


class MixedRadix(Stage, name="mixed_radix"):
    """The column `code`: the numbers of several columns as digits of one, in a mixed radix system.

    The first column has the highest digits: with base b of the last, `code = b * (code of those before) + last`. `base`
    is one for all columns, or one each. Nothing stands above the first of several columns, so one base for all does
    not bound it: it may be a code itself. Ids that one of the columns lacks have no code.
    """

    gives: ClassVar[Mapping[str, str]] = {"code": "Column"}
    example: ClassVar[str] = "{use: mixed_radix, of: [first.label, second.label], base: 10}"

    of: Refs[Column] = Field(min_length=1)
    base: Bases = Field(description="how many values a digit has: one number for all columns, or one each")

    @model_validator(mode="after")
    def _one_each(self) -> MixedRadix:
        if len(self.base) not in (1, len(self.of)):
            raise ValueError(f"`base` has {len(self.base)} numbers for {len(self.of)} columns")
        return self

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        for place, name in enumerate(self.of):
            declared = given.of("of", place)
            several = declared.axes[1:] or declared.size
            if declared.modality not in ("unknown", *DIGITS) or (several and declared.modality != "unknown"):
                raise ComponentError(
                    "mixed_radix reads one whole number a row", hint="name columns of classes or counts",
                    found=f"{name}, {'several values' if several else declared.modality}",
                )  # fmt: skip
        return {"code": TensorType("label", given.of("of", 0).axes[:1], dtype="int64")}

    def run(self, context: StageContext) -> None:
        columns = [context.column("of", place) for place in range(len(self.of))]
        bases = self.base * len(columns) if len(self.base) == 1 else self.base
        digits: list[dict[str, int]] = []
        for place, (name, column, base) in enumerate(zip(self.of, columns, bases, strict=True)):
            found = dict(zip(*column.present(), strict=True))
            free = place == 0 and len(self.base) == 1 < len(columns)
            wrong = next((v for v in found.values() if not isinstance(v, int) or v < 0 or not (free or v < base)), None)
            if wrong is not None:
                most = "up" if free else f"to {base - 1}"
                raise ComponentError(
                    f"mixed_radix: {name} has the value {wrong}", expected=f"whole numbers from 0 {most}",
                    hint="a larger `base`",
                )  # fmt: skip
            digits.append(found)
        ids = [id for id in columns[0].ids if all(id in found for found in digits)]
        codes = [reduce(lambda code, d: code * d[1] + d[0][id], zip(digits, bases, strict=True), 0) for id in ids]
        context.write_column("code", ids, codes)
