"""The queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, Encoding, Memory, TensorType
from mmflow_memories.columns import PREFIX, columns_of, first_buffer, first_rows, stored

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
    fill: Literal["empty", "random", "warm"] = Field(
        "empty",
        description="random: start full, with random vectors of length one (integers: -1); warm: start full, with rows "
        "of the data as the untrained model encodes them",
    )
    ready: Literal["any", "full"] = Field("any", description="readable from the first row on, or when full")
    normalize: bool = Field(False, description="store vectors with length one")

    @model_validator(mode="after")
    def _warm_from_the_first_step(self) -> Queue:
        if self.fill == "warm" and self.active is not None:
            raise ValueError("fill: warm is done before the first step, and `active` says that it is written later")
        return self

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        import torch

        state: dict[str, Tensor] = {}
        for name, column in columns.items():
            state[PREFIX + name] = first_buffer(self.use, name, column, self.size, self.fill, generator)
        state["cursor"] = torch.zeros((), dtype=torch.int64)
        state["filled"] = torch.tensor(self.size if self.fill == "random" else 0)
        return state

    def waits(self, state: Mapping[str, Tensor]) -> bool:
        return self.fill == "warm" and int(state["filled"]) < self.size

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
            buffer = state[PREFIX + name]
            rows = stored(column[arrived - kept :], buffer, unit=self.normalize)
            after[PREFIX + name] = buffer.index_copy(0, places, rows)
        return {**after, "cursor": (cursor + arrived) % self.size, "filled": (filled + arrived).clamp_max(self.size)}

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding] | None:
        filled = int(state["filled"])
        if filled == 0 or (self.ready == "full" and filled < self.size):
            return None
        present = first_rows(self.size, state["filled"])
        return {name: Encoding({"pooled": rows}, ("entry",), present) for name, rows in columns_of(state).items()}
