"""Decoding of sequences of ids, one at a time: greedy, beam search, and sampling from the nucleus.

`step` gives the logits [B, V] of the next id for ids [B, T] so far; `rows` says which row of the batch each belongs to.
A sequence begins with the id `begin` and is done after the id `end`, or with `length` ids.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmflow.plugin import Tokens

Step = Callable[[Tensor, Tensor], Tensor]


def sample(
    step: Step, rows: int, *, begin: int, end: int, length: int, top_p: float, temperature: float,
    generator: torch.Generator | None, device: torch.device,
) -> Tokens:  # fmt: skip
    """Sample each id from the most probable ids that together have the probability `top_p` (Holtzman et al., 2020).

    Without a generator the most probable id is taken (greedy). One number is drawn for each step and used for all rows,
    so that a row does not depend on the others in its batch.
    """
    index = torch.arange(rows, device=device)
    ids = torch.full((rows, 1), begin, dtype=torch.int64, device=device)
    real = torch.ones_like(ids, dtype=torch.bool)
    while ids.shape[1] < length and not bool((ids[:, 1:] == end).any(dim=1).all()):
        logits = step(ids, index)
        if generator is None:
            chosen = logits.argmax(dim=-1)
        else:
            draw = torch.rand((), generator=generator).to(device)
            chosen = from_nucleus(logits / temperature, top_p, draw)
        open_ = real[:, -1] & ((ids[:, -1] != end) | (ids.shape[1] == 1))
        ids = torch.cat([ids, torch.where(open_, chosen, end)[:, None]], dim=1)
        real = torch.cat([real, open_[:, None]], dim=1)
    return Tokens(ids, real)


def from_nucleus(logits: Tensor, top_p: float, draw: Tensor) -> Tensor:
    """The ids at the share `draw` in [0, 1) of the nucleus of each row: [B, V] -> [B]."""
    ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    # The most probable id belongs to every nucleus, as the probability before it is zero.
    reached = ordered.masked_fill(before >= top_p, 0).cumsum(dim=-1)
    place = (reached <= draw * reached[..., -1:]).sum(dim=-1, keepdim=True)
    return order.gather(-1, place.clamp_max(ordered.shape[-1] - 1)).squeeze(-1)


def search(
    step: Step, rows: int, *, begin: int, end: int, length: int, beams: int, penalty: float, device: torch.device
) -> Tokens:
    """The most probable sequence that beam search finds, by log probability / number of ids after begin ** penalty."""
    ids = torch.full((rows, 1, 1), begin, dtype=torch.int64, device=device)
    scores = torch.zeros(rows, 1, device=device)
    counts = torch.zeros_like(scores)
    done = torch.zeros(rows, 1, dtype=torch.bool, device=device)
    while ids.shape[2] < length and not bool(done.all()):
        width = ids.shape[1]
        index = torch.arange(rows, device=device).repeat_interleave(width)
        found = step(ids.flatten(0, 1), index).log_softmax(dim=-1).unflatten(0, (rows, width))
        # A sequence that is done goes on with the end id alone, at no cost.
        stay = torch.full_like(found, -torch.inf)
        stay[..., end] = 0
        found = torch.where(done[..., None], stay, found)
        total = (scores.to(found.dtype)[..., None] + found).flatten(1)
        number = (counts + ~done)[..., None].expand_as(found).flatten(1).to(found.dtype)
        kept = (total / number.clamp_min(1) ** penalty).topk(min(beams, total.shape[1]), dim=-1).indices
        beam, chosen = kept // found.shape[-1], kept % found.shape[-1]
        scores, counts = total.gather(1, kept), number.gather(1, kept)
        ids = torch.cat([ids.gather(1, beam[..., None].expand(-1, -1, ids.shape[2])), chosen[..., None]], dim=2)
        done = done.gather(1, beam) | (chosen == end)
    best = (scores / counts.clamp_min(1) ** penalty).argmax(dim=1)
    chosen = ids[torch.arange(rows, device=device), best]
    after = (chosen[:, 1:] == end).cumsum(dim=1)
    real = torch.cat([torch.ones_like(chosen[:, :1]), (after - (chosen[:, 1:] == end).to(after) == 0)], dim=1)
    return Tokens(chosen, real.bool())
