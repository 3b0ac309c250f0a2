"""The bank: the vector of every sample."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Encoding, Memory, TensorType, Value, default, outside_identity
from mmflow_memories.columns import PREFIX, columns_of, first_buffer, first_rows, like_rows, stored
from mmflow_memories.places import find, no_places, numbers_of, rounds, take

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FRESH = "fresh."
"""In front of rows that are not written to the disk yet."""
_PLACE = f"{FRESH}place"
"""Their places."""


class Bank(Memory, name="bank"):
    """A row for each sample, found by its id, mixed with what the sample gives later (Wu et al., 2018, section 3.1).

    A step makes the row m of a sample into momentum * m + (1 - momentum) * z; the first is z itself, or with `fill:
    random` a mix with a random vector. A sample that a batch has twice is mixed in twice, in order. Whole numbers are
    replaced. State: places [size] by id and a buffer [size, ...] a column. Readers see the rows that are there, and
    the column `id` with their ids as numbers, so that `recall` finds those of a batch.

    Beyond `in_memory` MB the buffers lie in a file that ends with the process; what a step gives is written there
    once the step is over. `after` then costs one copy of what is read. Checkpoints have all of it.
    """

    example: ClassVar[str] = "{use: bank, size: 50000, of: {image: image, text: text}, momentum: 0.5, normalize: true}"

    size: int = Field(ge=1, le=1_000_000_000, description="number of samples")
    momentum: Value = default(0.5)
    fill: Literal["empty", "random"] = Field("empty", description="random: start with random vectors of length one")
    normalize: bool = Field(False, description="store vectors with length one")
    in_memory: int = outside_identity(4096, ge=0, le=10**9, description="MB of vectors; more lie on the disk")

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        state = no_places(self.size)
        for name, column in columns.items():
            state[PREFIX + name] = first_buffer(self.use, name, column, self.size, self.fill, generator)
        return state

    def gives(self, columns: Mapping[str, TensorType]) -> Mapping[str, TensorType]:
        return {"id": TensorType("id", dtype="int64")}

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor], ids: Sequence[str], momentum: float | Tensor
    ) -> dict[str, Tensor]:
        import torch
        from torch.nn.functional import normalize

        keys = numbers_of(ids, state["id"].device)
        after, before = take(self.use, state, keys), int(state["filled"])
        places, _ = find(keys, after["ordered"], after["place"])
        new = places >= (before if self.fill == "empty" else self.size)
        on_disk, waits = self._on_disk(state), _waiting(state, places)
        for name, column in columns.items():
            buffer = state[PREFIX + name]
            rows, own = stored(column, buffer, unit=self.normalize), _places_in(places)
            values = _with_fresh(state, name, places, buffer[places])[own.first]
            fresh = new[own.first]
            for turn in rounds(keys):
                at = own.number[turn]
                mixed = rows[turn]
                if buffer.is_floating_point():
                    old = values[at]
                    mixed = momentum * old + (1 - momentum) * mixed
                    mixed = normalize(mixed, dim=-1) if self.normalize else mixed
                    mixed = mixed.where(~like_rows(fresh[at], mixed), rows[turn]).to(buffer)
                values = values.index_copy(0, at, mixed)
                fresh = fresh.index_fill(0, at, False)
            if on_disk:
                earlier, place = ([], []) if waits is None else ([state[FRESH + name][waits]], [state[_PLACE][waits]])
                after[PREFIX + name], after[FRESH + name] = buffer, torch.cat([*earlier, values])
                after[_PLACE] = torch.cat([*place, places[own.first]])
            else:
                after[PREFIX + name] = buffer.index_copy(0, places[own.first], values)
        return after

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding] | None:
        if int(state["filled"]) == 0 and self.fill == "empty":
            return None
        present = None if self.fill == "random" else first_rows(self.size, state["filled"])
        found = {**_whole(state), "id": state["id"]}
        return {name: Encoding({"pooled": rows}, ("entry",), present) for name, rows in found.items()}

    def kept(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The state between two steps: on the disk where it is large."""
        if not self._on_disk(state):
            return state
        found = {name: value.cpu() for name, value in state.items() if not name.startswith(FRESH)}
        for name, buffer in columns_of(state).items():
            mapped = buffer if hasattr(buffer, _MAPPED) else _on_disk(buffer.cpu())
            if FRESH + name in state:
                mapped.index_copy_(0, state[_PLACE].cpu(), state[FRESH + name].cpu())
            found[PREFIX + name] = mapped
        return found

    def _on_disk(self, state: Mapping[str, Tensor]) -> bool:
        return sum(buffer.nbytes for buffer in columns_of(state).values()) > self.in_memory * 2**20


class _Own:
    """The places of a batch without repetition: `first` is a row of each, `number` says which one a row has."""

    def __init__(self, first: Tensor, number: Tensor) -> None:
        self.first, self.number = first, number


def _places_in(places: Tensor) -> _Own:
    import torch

    known, number = torch.unique(places, return_inverse=True)
    first = torch.empty_like(known).scatter_(0, number, torch.arange(len(places), device=places.device))
    return _Own(first, number)


def _with_fresh(state: Mapping[str, Tensor], name: str, places: Tensor, rows: Tensor) -> Tensor:
    """Rows of a buffer with those in them that wait to be written."""
    if FRESH + name not in state:
        return rows
    order = state[_PLACE].argsort()
    at, known = find(places, state[_PLACE][order], order)
    return rows.where(~like_rows(known, rows), state[FRESH + name][at])


def _waiting(state: Mapping[str, Tensor], places: Tensor) -> Tensor | None:
    """Which of the rows that wait to be written are others than those of `places`; None where none wait."""
    import torch

    return ~torch.isin(state[_PLACE], places) if _PLACE in state else None


def _whole(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: buffer.index_copy(0, state[_PLACE], state[FRESH + name]) if FRESH + name in state else buffer
        for name, buffer in columns_of(state).items()
    }


_MAPPED = "mmflow_file"
"""Marks a tensor that lies in a file."""


def _on_disk(buffer: Tensor) -> Tensor:
    """The same values in a file without a name, which the system frees with the last reader."""
    import torch

    handle, name = tempfile.mkstemp(prefix="mmflow-bank-")
    try:
        os.truncate(handle, buffer.nbytes)
        mapped = torch.from_file(name, shared=True, size=buffer.numel(), dtype=buffer.dtype)
    finally:
        os.close(handle)
        Path(name).unlink()
    mapped = mapped.view(buffer.shape)
    mapped.copy_(buffer)
    setattr(mapped, _MAPPED, True)
    return mapped
