"""Pairs of rows with hard negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import (
    Bounds,
    Encoded,
    Encoder,
    Labels,
    RawField,
    Ref,
    Refs,
    Score,
    TensorType,
    Value,
    default,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mmflow.plugin import Encoding


class HardPairs(Encoder, name="hard_pairs"):
    """Matching pairs and hard negatives of each side, found in the batch by a score (ALBEF; Li et al., 2021).

    Of N rows it makes 3N pairs on the axis `pair`: the rows themselves, then each row of the first input with a
    negative of the second, then a negative of the first with each row of the second. Outputs are the numbers of the
    rows, under the names of the two inputs (`pairs.image`, `pairs.text`), and `match`: 1 for a matching pair, 0 for a
    negative. Negatives are drawn by softmax(score / temperature), or are those that score highest. Rows that `exclude`
    says are equal to a row are no negatives of it. A pair that cannot be made has the row -1 and no `match` (-1).
    """

    example: ClassVar[str] = "{use: hard_pairs, of: [image, text], temperature: losses.align.temperature, exclude: id}"

    of: Refs[Encoded] = Field(min_length=2, max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    score: Score = default("cosine", description="similarity of a row of the first input and one of the second")
    temperature: Annotated[Value, Bounds(gt=0)] = default(1.0, description="divisor of the scores")
    exclude: Ref[Labels | RawField] | None = Field(
        None, description="rows with an equal value are no negatives: an id, a text or a label"
    )
    choose: Literal["sampled", "hardest"] = Field("sampled", description="how a negative is found")

    @model_validator(mode="after")
    def _two_names(self) -> HardPairs:
        if "match" in self._names or len(set(self._names)) < 2:
            raise ValueError(f"the outputs would be {', '.join((*self._names, 'match'))}: give the inputs other names")
        return self

    @property
    def _names(self) -> tuple[str, str]:
        first, second = (of.path[0] if of.path[0] != "encoders" else of.path[1] for of in self.of)
        return first, second

    def scope(self) -> Literal["row", "batch"]:
        return "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        index = TensorType("index", ("pair",), dtype="int64")
        match = TensorType("label", ("pair",), dtype="int64", names=("negative", "matching"))
        return {**dict.fromkeys(self._names, index), "match": match}

    def presence(self, inputs: Sequence[Encoding]) -> None:
        return None

    def apply(
        self, a: Encoding, b: Encoding, score: Score, temperature: float | Tensor, exclude: Tensor | list[Any] | None,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:  # fmt: skip
        import torch

        with torch.no_grad():
            blocks = score.blocks(a, b)
            ab, ba = blocks if isinstance(blocks, tuple) else (blocks, blocks.T)
            rows = torch.arange(len(ab), device=ab.device)
            there = torch.ones_like(rows, dtype=torch.bool)
            for encoding in (a, b):
                if encoding.present is not None:
                    there &= encoding.present
            allowed = ~_equal(exclude, rows) & there & there.unsqueeze(1)
            of_a, of_b = (self._negatives(s / temperature, allowed, generator) for s in (ab, ba))
        own = rows.masked_fill(~there, -1)
        first = torch.cat([own, torch.where(of_a < 0, -1, own), of_b])
        second = torch.cat([own, of_a, torch.where(of_b < 0, -1, own)])
        match = torch.zeros_like(first)
        match[: len(own)] = 1
        return {**dict(zip(self._names, (first, second), strict=True)), "match": match.masked_fill(first < 0, -1)}

    def _negatives(self, scores: Tensor, allowed: Tensor, generator: torch.Generator) -> Tensor:
        """For each row the number of a negative [N]; -1 where none is allowed."""
        import torch

        possible = allowed.any(1)
        scores = scores.masked_fill(~allowed, float("-inf")).masked_fill(~possible.unsqueeze(1), 0.0)
        if self.choose == "hardest":
            found = scores.argmax(1)
        else:
            # On the CPU, so that every device draws the same.
            shares = scores.double().softmax(1).cpu()
            found = torch.multinomial(shares, 1, generator=generator).squeeze(1).to(scores.device)
        return found.masked_fill(~possible, -1)


def _equal(values: Tensor | list[Any] | None, rows: Tensor) -> Tensor:
    """Which rows are equal [N, N]: each is to itself, and to those of an equal value."""
    import torch

    same = rows.unsqueeze(1) == rows
    if values is None:
        return same
    if isinstance(values, list):
        known: dict[Any, int] = {}
        values = torch.tensor([known.setdefault(value, len(known)) for value in values], device=rows.device)
    flat = values.flatten(1) if values.ndim > 1 else values.unsqueeze(1)
    return same | (flat.unsqueeze(1) == flat).all(-1)


__all__ = ["HardPairs"]
