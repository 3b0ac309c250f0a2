"""A value that an encoder gives itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmflow.plugin import ComponentError, Loss, Pooled, Refs, TensorType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor


class EmittedValue(Loss, name="emitted"):
    """The mean over rows of a number that an encoder's module gives for each of them by `emit`: a penalty or a loss of
    its own, such as that of blocks that align their inputs, summed over the blocks: L = sum_i w_i v_i / sum_i w_i."""

    per_row: ClassVar[bool] = True
    example: ClassVar[str] = "{use: emitted, of: video.align, weight: 0.1}"

    of: Refs[Pooled] = Field((), max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]

    def fits(self, of: Sequence[TensorType], fields: Mapping[str, TensorType]) -> None:
        whole = of[0].dtype.startswith("int") and of[0].modality != "unknown"
        if of[0].size or whole or of[0].modality in ("text", "labels"):
            self._refuse(f"{of[0].modality} of the size {list(of[0].size)}, {of[0].dtype}")

    def compute(self, value: Tensor) -> Tensor:
        if value.ndim != 1:
            self._refuse(str(list(value.shape)))
        return value

    def _refuse(self, found: str) -> None:
        raise ComponentError(
            f"`emitted` reads one number a row, and {self.of[0]} gives {found}",
            hint="name an output that a module emits: ENCODER.NAME",
        )
