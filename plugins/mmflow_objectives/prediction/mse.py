"""Squared differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmflow.plugin import ComponentError, Loss, Pooled, Refs, TensorType, TokenSequence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mmflow.plugin import Tokens


class MeanSquaredError(Loss, name="mse"):
    """Squared difference of two inputs of one shape, the mean over all values of a row: mean_d (a_d - b_d)^2.

    Of two token sequences [N, L, D], the mean over the tokens that are real in both (hidden patches, say); a row's
    weight is their number.
    """

    per_row: ClassVar[bool] = True
    example: ClassVar[str] = "{use: mse, of: [decoded, target.detach]}"

    of: Refs[Pooled | TokenSequence] = Field((), max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]

    def fits(self, of: Sequence[TensorType], fields: Mapping[str, TensorType]) -> None:
        if all(given.dtype.startswith("int") and given.modality != "unknown" for given in of):
            raise ComponentError(
                "mse takes numbers that an encoder makes", found="whole numbers alone, such as ids",
                hint="name a vector or tokens",
            )  # fmt: skip
        a, b = (given.size for given in of)
        differ = len(a) != len(b) or any(m != n for m, n in zip(a, b, strict=True) if m is not None and n is not None)
        if differ and "unknown" not in (of[0].modality, of[1].modality):
            raise ComponentError("mse takes inputs of one shape", found=f"{list(a)} and {list(b)}")

    def compute(self, a: Tensor | Tokens, b: Tensor | Tokens) -> Any:
        from mmflow.plugin import Tokens

        x, y = (given.values if isinstance(given, Tokens) else given for given in (a, b))
        if x.shape != y.shape or isinstance(a, Tokens) != isinstance(b, Tokens):
            raise ComponentError("mse takes inputs of one shape", found=f"{list(x.shape)} and {list(y.shape)}")
        squares = (x - y).square()
        squares = squares if squares.is_floating_point() else squares.float()
        if not (isinstance(a, Tokens) and isinstance(b, Tokens)):
            return squares.flatten(1).mean(1)
        counted = a.mask & b.mask
        weight = counted.sum(1)
        each = squares.reshape(*x.shape[:2], -1).mean(2)
        return (each * counted).sum(1) / weight.clamp_min(1), weight.to(squares.dtype)
