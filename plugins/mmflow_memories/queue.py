"""The queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, Encoding, Memory, TensorType

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Queue(Memory, name="queue"):
    """The newest `size` rows of one or several columns, first in first out (MoCo; He et al., 2020).

    State: a buffer [size, ...] a column, `cursor`, the place that is written next, and `filled`, the number of places
    in use. Columns are kept in step: place k of each comes from one row. Of a batch larger than the queue the
    newest `size` rows stay.
    """

    example: ClassVar[str] = "{use: queue, size: 4096, of: {image: image_slow, text: text_slow}}"

    size: int = Field(ge=1, le=1_000_000_000, description="number of rows")
    fill: Literal["empty", "random"] = Field(
        "empty", description="random: start full, with random vectors of length one (integers: -1)"
    )
    ready: Literal["any", "full"] = Field("any", description="readable from the first row on, or when full")
    normalize: bool = Field(False, description="store vectors with length one")

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        import torch
        from torch.nn.functional import normalize

        state: dict[str, Tensor] = {}
        for name, column in columns.items():
            if None in column.size:
                raise ComponentError(
                    f"queue does not know the size of a row of its column {name!r}",
                    found=f"{column.modality} {list(column.size)}",
                    expected="vectors of known width, or one number a row",
                )
            shape = (self.size, *(int(n) for n in column.size if n is not None))
            dtype = getattr(torch, column.dtype, None)
            if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
                state[f"column.{name}"] = torch.full(shape, -1, dtype=torch.int64)
            elif self.fill == "random":
                state[f"column.{name}"] = normalize(torch.randn(shape, generator=generator, dtype=dtype), dim=-1)
            else:
                state[f"column.{name}"] = torch.zeros(shape, dtype=dtype)
        state["cursor"] = torch.zeros((), dtype=torch.int64)
        state["filled"] = torch.tensor(self.size if self.fill == "random" else 0)
        return state

    def update(self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        rows = {len(column) for column in columns.values()}
        if len(rows) > 1:
            raise ComponentError("the columns of a queue differ in rows", found=f"{sorted(rows)}")
        arrived = rows.pop()
        kept = min(arrived, self.size)
        cursor, filled = state["cursor"], state["filled"]
        # Rows that this batch itself would overwrite still move the cursor.
        places = (cursor + arrived - kept + torch.arange(kept, device=cursor.device)) % self.size
        after: dict[str, Tensor] = {}
        for name, column in columns.items():
            buffer = state[f"column.{name}"]
            stored = self._stored(column[arrived - kept :], buffer.dtype)
            after[f"column.{name}"] = buffer.index_copy(0, places, stored)
        return {**after, "cursor": (cursor + arrived) % self.size, "filled": (filled + arrived).clamp_max(self.size)}

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding] | None:
        import torch

        filled = int(state["filled"])
        if filled == 0 or (self.ready == "full" and filled < self.size):
            return None
        present = None
        if filled < self.size:
            present = torch.arange(self.size, device=state["filled"].device) < filled
        return {
            name.removeprefix("column."): Encoding({"pooled": buffer}, ("entry",), present)
            for name, buffer in state.items()
            if name.startswith("column.")
        }

    def _stored(self, column: Tensor, dtype: torch.dtype) -> Tensor:
        from torch.nn.functional import normalize

        column = column.detach()
        if self.normalize and column.is_floating_point():
            column = normalize(column, dim=-1)
        return column.to(dtype)
