"""Draws inside nodes: where a node draws, its rows draw at addresses of their own, whatever batch they are in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmflow.plugin.targets import Place
from mmflow.plugin.values import Argument, Encoding, Tokens, same_rows

Inputs = Mapping[Place, Encoding | None]
"""Encodings by the places of the references that read them."""


def one_by_one(run: Callable[[Inputs, int], Argument], inputs: Inputs, row_axis: str, count: int) -> Argument:
    """The results of `run(inputs of one row, number of the row)`, joined as if the rows had run together.

    A row's result depends on that row alone, so this changes nothing but the draws.
    """
    results = []
    for row in range(count):
        own = {
            place: encoding.rows(slice(row, row + 1))
            if encoding is not None and same_rows(encoding.axes[0], row_axis)
            else encoding
            for place, encoding in inputs.items()
        }
        results.append(run(own, row))
    return _joined(results)


def by_members(
    one_pass: Callable[..., Argument], inputs: Inputs, ids: Sequence[str], row_axis: str, members: int
) -> Argument:
    """The results of `one_pass(inputs, ids, member)` for each member of groups, which lie one after another in the rows
    of `inputs`; joined as if the rows had run together."""
    results = []
    for member in range(members):
        chosen = slice(member, None, members)
        own = {
            place: encoding.rows(chosen) if encoding is not None and same_rows(encoding.axes[0], row_axis) else encoding
            for place, encoding in inputs.items()
        }
        results.append(one_pass(own, ids[chosen], member))
    return _in_turn(_joined(results), members)


def _in_turn(joined: Argument, members: int) -> Argument:
    """Rows that lie member by member, ordered so that the members of a row lie together."""
    if isinstance(joined, Mapping):
        return {name: _in_turn(value, members) for name, value in joined.items()}
    if isinstance(joined, Tokens):
        return Tokens(*(_in_turn(part, members) for part in joined))
    shape = joined.shape
    return joined.reshape(members, -1, *shape[1:]).transpose(0, 1).reshape(shape)


@contextmanager
def generators_left_alone() -> Iterator[Callable[[], bool]]:
    """Leave torch's own generators as they were; the function tells whether one was drawn from since it was last
    asked."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        seen: list[list[Tensor]] = [[]]

        def moved() -> bool:
            now = [torch.get_rng_state(), *(torch.cuda.get_rng_state(number) for number in devices)]
            before, seen[0] = seen[0], now
            return not before or not all(map(torch.equal, before, now))

        yield moved


def _joined(results: Sequence[Argument]) -> Argument:
    first = results[0]
    if isinstance(first, Mapping):
        return {name: _joined([result[name] for result in results]) for name in first}
    if isinstance(first, Tokens):
        length = max(tokens.mask.shape[1] for tokens in results)
        return Tokens(*(torch.cat([_longer(part, length) for part in parts]) for parts in zip(*results, strict=True)))
    if isinstance(first, tuple):
        return tuple(_joined(parts) for parts in zip(*results, strict=True))
    return torch.cat(list(results))


def _longer(tensor: Tensor, length: int) -> Tensor:
    return pad(tensor, (*(0, 0) * (tensor.ndim - 2), 0, length - tensor.shape[1]))
