"""The module of `recall`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Encoding
from mmflow_memories.columns import like_rows
from mmflow_memories.places import find, numbers_of


class Recalled(nn.Module):
    """Rows of a table by id."""

    device: Tensor

    def __init__(self, shape: Sequence[int], dtype: str) -> None:
        super().__init__()
        self.shape, self.dtype = tuple(shape), getattr(torch, dtype)
        # A table on the disk is on the CPU, wherever the model is.
        self.register_buffer("device", torch.zeros(()), persistent=False)

    def forward(self, id: Sequence[str], held: Encoding | None, ids: Encoding | None) -> dict[str, Tensor]:
        device = self.device.device
        rows, keys = (None if found is None else found.pooled for found in (held, ids))
        if rows is None or keys is None:
            dtype = self.device.dtype if self.dtype.is_floating_point else self.dtype
            empty = torch.zeros((len(id), *self.shape), dtype=dtype, device=device)
            return {"pooled": empty, "known": torch.zeros(len(id), device=device, dtype=self.device.dtype)}
        ordered, places = keys.sort(stable=True)
        at, known = find(numbers_of(id, keys.device), ordered, places)
        found = rows[at] * like_rows(known, rows[at]).to(rows.dtype)
        return {"pooled": found.to(device), "known": known.to(device, self.device.dtype)}
