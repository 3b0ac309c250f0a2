"""Places by id: which row of a memory belongs to which sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mmflow.plugin import ComponentError, address

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FREE = 2**63 - 1
"""Stands behind all ids in their order, where a place is free."""


def no_places(size: int) -> dict[str, Tensor]:
    """`size` places, all free: `id` int64 [size] by place (-1: free), the ids in order with their places, `filled`."""
    import torch

    return {
        "id": torch.full((size,), -1),
        "ordered": torch.full((size,), FREE),
        "place": torch.zeros(size, dtype=torch.int64),
        "filled": torch.zeros((), dtype=torch.int64),
    }


def numbers_of(ids: Sequence[str], device: torch.device) -> Tensor:
    """Ids as numbers, int64 [N], as a memory keeps those of a column."""
    import torch

    return torch.tensor([address(id) for id in ids], dtype=torch.int64, device=device)


def find(keys: Tensor, ordered: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """The place of each key [N], and whether it has one."""
    import torch

    at = torch.searchsorted(ordered, keys).clamp_max(len(ordered) - 1)
    return place[at], ordered[at] == keys


def take(name: str, state: Mapping[str, Tensor], keys: Tensor) -> dict[str, Tensor]:
    """The places with one more for each key that has none, in the order in which they came.

    Raises `ComponentError` where none is free.
    """
    import torch

    kept = {part: state[part] for part in ("id", "ordered", "place", "filled")}
    _, known = find(keys, kept["ordered"], kept["place"])
    if bool(known.all()):
        return kept
    new = next(rounds(keys[~known]))
    fresh, filled, size = keys[~known][new], int(kept["filled"]), len(kept["id"])
    if filled + len(fresh) > size:
        raise ComponentError(
            f"{name} has no place for further samples",
            found=f"{filled + len(fresh)} ids",
            expected=f"at most {size} (`size`)",
            hint="write `size` as large as the data has samples",
        )
    places = torch.arange(filled, filled + len(fresh), device=keys.device)
    ids = kept["id"].index_copy(0, places, fresh)
    ordered, order = torch.where(ids >= 0, ids, FREE).sort(stable=True)
    return {"id": ids, "ordered": ordered, "place": order, "filled": kept["filled"] + len(fresh)}


def places_within(groups: Tensor) -> Tensor:
    """For each row the number of earlier rows of its group, int64 [N]."""
    import torch

    _, group = torch.unique(groups, return_inverse=True)
    order = group.argsort(stable=True)
    counts = torch.bincount(group)
    begins = (counts.cumsum(0) - counts)[group[order]]
    found = torch.empty_like(order)
    found[order] = torch.arange(len(groups), device=groups.device) - begins
    return found


def rounds(keys: Tensor) -> Iterator[Tensor]:
    """Rows of a batch so that no key is twice in one round: their first rows, then their second ones."""
    which = places_within(keys)
    for turn in range(int(which.max()) + 1 if len(keys) else 0):
        yield (which == turn).nonzero().flatten()
