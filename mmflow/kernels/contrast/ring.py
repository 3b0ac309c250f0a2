"""The contrastive cores over a batch that is split over ranks: blocks of columns travel round a ring.

Every rank keeps its rows of x. A block of y goes from rank to rank with its ids and with the sums (forward) or the
gradient (backward) of its columns, and is home again after as many steps as there are ranks: one round serves both
directions, and no rank ever holds more than two blocks of features. All ranks shift by one constant, derived from the
largest norms of all; a block meets the ranks in a fixed order, so that a run repeats its bits.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..dispatch import opaque
from .chunked import compute_dtype, gradients, largest_norm, slope_of, sweep
from .pairs import Pairs
from .sigmoid import sigmoid_sweep
from .tiles import Stream, Sums, Want, shift_for

Group = dist.ProcessGroup


class Ring:
    """Who holds which rows and columns of the global batch."""

    def __init__(self, group: Group, rows: int, columns: int, device: torch.device):
        self.group, self.rank, self.ranks = group, dist.get_rank(group), dist.get_world_size(group)
        mine = torch.tensor([rows, columns], device=device)
        all_sizes = [torch.empty_like(mine) for _ in range(self.ranks)]
        dist.all_gather(all_sizes, mine, group=group)
        self.rows, self.columns = ([int(s[k]) for s in all_sizes] for k in (0, 1))
        self.first_row = sum(self.rows[: self.rank])

    def owner(self, step: int) -> int:
        """Whose columns this rank holds after `step` moves."""
        return (self.rank + step) % self.ranks

    def first_column(self, owner: int) -> int:
        return sum(self.columns[:owner])

    def start(self, tensors: list[Tensor], owner: int, axis: int = 0) -> tuple[list[Tensor], list[dist.Work]]:
        """Begins to pass tensors on to the previous rank and to receive those of `owner`, its columns along `axis`."""
        if self.ranks == 1:
            return tensors, []
        arriving = [t.new_empty((*t.shape[:axis], self.columns[owner], *t.shape[axis + 1 :])) for t in tensors]
        previous = dist.get_global_rank(self.group, (self.rank - 1) % self.ranks)
        following = dist.get_global_rank(self.group, (self.rank + 1) % self.ranks)
        moves = [dist.P2POp(dist.isend, t.contiguous(), previous, self.group) for t in tensors]
        moves += [dist.P2POp(dist.irecv, t, following, self.group) for t in arriving]
        return arriving, dist.batch_isend_irecv(moves)

    def move(self, tensors: list[Tensor], owner: int, axis: int = 0) -> list[Tensor]:
        arriving, works = self.start(tensors, owner, axis)
        for work in works:
            work.wait()
        return arriving

    def largest(self, value: float, device: torch.device) -> float:
        t = torch.tensor(value, dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
        dist.all_reduce(t, dist.ReduceOp.MAX, group=self.group)
        return float(t)


class _Block:
    """The part of a batch that travels: features, scale and what the rules know of its columns."""

    def __init__(self, y: Tensor, scale: Tensor, pairs: Pairs):
        self.tensors = [y]
        self.fields: list[str] = []
        if scale.dim():
            self.fields.append("scale")
            self.tensors.append(scale)
        for name in ("y_ids", "y_views", "y_present"):
            value = getattr(pairs, name)
            if value is not None:
                self.fields.append(name)
                self.tensors.append(value.to(torch.uint8) if name == "y_present" else value)

    def unpack(self, tensors: list[Tensor], scale: Tensor, pairs: Pairs, ring: Ring, owner: int):
        """(y, scale, rules) of the block that now lies here."""
        given: dict[str, Any] = dict(zip(self.fields, tensors[1:], strict=True))
        if "y_present" in given:
            given["y_present"] = given["y_present"].bool()
        own = given.pop("scale", scale)
        rules = replace(
            pairs, columns=ring.columns[owner], first_row=ring.first_row, first_column=ring.first_column(owner), **given
        )
        return tensors[0], own, rules


@opaque
def softmax_sums(
    x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, want: Want, group: Group
) -> tuple[Sums | None, Sums | None]:
    """As `chunked.softmax_sums` over the global batch: the sums of this rank's rows and of this rank's columns."""
    flat = _Softmax.apply(x, y, scale, pairs, want, group)
    sides = [Sums(*flat[6 * k : 6 * k + 6]) if wanted else None for k, wanted in enumerate((want.rows, want.columns))]
    return sides[0], sides[1]


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, want: Want, group: Group):
        x, y, scale = x.detach(), y.detach(), scale.detach()
        ring = Ring(group, x.shape[0], y.shape[0], x.device)
        # one rank's rows meet another's columns: norms are compared apart
        longest = [ring.largest(largest_norm(v, s), x.device) for v, s in ((x, None), (y, scale))]
        shift = shift_for(longest[0] * longest[1])
        rows, columns = _round(x, y, scale, pairs, want, ring, shift)
        doubtful = any(s is not None and not s.trusted() for s in (rows, columns))
        if shift is not None and ring.largest(float(doubtful), x.device):
            shift = None
            rows, columns = _round(x, y, scale, pairs, want, ring, shift)
        ctx.pairs, ctx.want, ctx.shift, ctx.ring = pairs, want, shift, ring
        kept = [v for stream in (rows, columns) for v in ((None, None) if stream is None else stream.norms())]
        ctx.save_for_backward(x, y, scale, *kept)
        sides = [None if s is None else s.sums() for s in (rows, columns)]
        flat = tuple(v for side in sides for v in ([None] * 6 if side is None else side))
        ctx.mark_non_differentiable(*(v for k in (4, 5, 10, 11) if (v := flat[k]) is not None))
        ctx.set_materialize_grads(False)
        return flat

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y, scale, row_norm, row_inside, column_norm, column_inside = ctx.saved_tensors
        ring, pairs, shift = ctx.ring, ctx.pairs, ctx.shift
        dtype = compute_dtype(x, y, scale)
        block = _Block(y, scale, pairs)
        vectors = [v for v in (column_norm, column_inside, *grads[6:10]) if v is not None]
        which = [v is not None for v in (column_norm, column_inside, *grads[6:10])]
        tensors, traveller = [*block.tensors, *vectors], [torch.zeros(y.shape, dtype=dtype, device=y.device)]
        if scale.dim():
            traveller.append(torch.zeros(scale.shape, dtype=torch.float64, device=y.device))
        dx, dscale = torch.zeros(x.shape, dtype=dtype, device=x.device), torch.zeros_like(scale, dtype=torch.float64)
        for step in range(ring.ranks):
            owner, following = ring.owner(step), ring.owner(step + 1)
            arriving, works = ring.start(tensors, following)
            yb, own, rules = block.unpack(tensors[: len(block.tensors)], scale, pairs, ring, owner)
            given = iter(tensors[len(block.tensors) :])
            norm, inside, *arrived = (next(given) if there else None for there in which)
            slopes = [
                slope_of(1, row_norm, row_inside, grads[:4], shift),
                slope_of(0, norm, inside, arrived, shift),
            ]
            if any(slopes):
                part = gradients(x, yb, own, rules, None, slopes, shift, (True, True, True))
                _add([dx, traveller[0], traveller[1] if scale.dim() else dscale], part)
            traveller = ring.move(traveller, following)
            for work in works:
                work.wait()
            tensors = arriving
        if scale.dim():
            dscale = traveller[1]
        needs = ctx.needs_input_grad
        return (
            dx.to(x.dtype) if needs[0] else None,
            traveller[0].to(y.dtype) if needs[1] else None,
            dscale.to(scale.dtype) if needs[2] else None,
            None,
            None,
            None,
        )


def _round(
    x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, want: Want, ring: Ring, shift: float | None
) -> tuple[Stream | None, Stream | None]:
    """One round: this rank's rows meet all columns, and this rank's columns come home having met all rows."""
    block = _Block(y, scale, pairs)
    tensors, n, m = block.tensors, sum(ring.rows), sum(ring.columns)
    dtype, device = compute_dtype(x, y, scale), x.device
    rows = Stream(x.shape[0], m, 1, want, shift, dtype, device) if want.rows else None
    columns = Stream(y.shape[0], n, 0, want, shift, dtype, device) if want.columns else None
    for step in range(ring.ranks):
        owner, following = ring.owner(step), ring.owner(step + 1)
        arriving, works = ring.start(tensors, following)
        yb, own, rules = block.unpack(tensors, scale, pairs, ring, owner)
        sweep(x, yb, own, rules, want, None, (rows, columns))
        if columns is not None:
            (state,) = ring.move([columns.state()], following, axis=1)
            columns = Stream(ring.columns[following], n, 0, want, shift, dtype, device)
            columns.restore(state)
        for work in works:
            work.wait()
        tensors = arriving
    return rows, columns


@opaque
def sigmoid_rows(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, weights: Tensor, pairs: Pairs, summed: bool, group: Group
) -> Tensor:
    """As `sigmoid.sigmoid_rows` over the global batch, for this rank's rows."""
    rows = _Sigmoid.apply(x, y, scale, bias, weights.detach(), pairs, summed, group)
    if summed:
        return rows
    return rows * weights


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        y: Tensor,
        scale: Tensor,
        bias: Tensor,
        weights: Tensor,
        pairs: Pairs,
        summed: bool,
        group: Group,
    ):
        x, y, scale, bias = x.detach(), y.detach(), scale.detach(), bias.detach()
        ctx.ring, ctx.pairs, ctx.summed = Ring(group, x.shape[0], y.shape[0], x.device), pairs, summed
        # all four, whether this rank needs them or not: another rank may, and every rank walks the same ring
        values, *found = _sigmoid_round(x, y, scale, bias, weights if summed else None, pairs, ctx.ring, summed, True)
        if summed:
            ctx.save_for_backward(*found)
            return (values * weights).sum()
        ctx.save_for_backward(x, y, scale, bias)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        if ctx.summed:
            found = [g * grad.to(g.dtype) for g in ctx.saved_tensors]
        else:
            x, y, scale, bias = ctx.saved_tensors
            _, *found = _sigmoid_round(x, y, scale, bias, grad, ctx.pairs, ctx.ring, True, False)
        return (
            *(g if need else None for g, need in zip(found, ctx.needs_input_grad, strict=False)),
            None,
            None,
            None,
            None,
        )


def _sigmoid_round(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    weights: Tensor | None,
    pairs: Pairs,
    ring: Ring,
    with_gradients: bool,
    with_values: bool,
) -> tuple[Tensor, ...]:
    dtype = compute_dtype(x, y, scale)
    block = _Block(y, scale, pairs)
    tensors = block.tensors
    values, dx = (
        torch.zeros(x.shape[0], dtype=dtype, device=x.device),
        torch.zeros(x.shape, dtype=dtype, device=x.device),
    )
    traveller = [torch.zeros(y.shape, dtype=dtype, device=y.device)]
    if scale.dim():
        traveller.append(torch.zeros(scale.shape, dtype=torch.float64, device=y.device))
    dscale, dbias = torch.zeros_like(scale, dtype=torch.float64), torch.zeros_like(bias, dtype=torch.float64)
    for step in range(ring.ranks):
        owner, following = ring.owner(step), ring.owner(step + 1)
        arriving, works = ring.start(tensors, following)
        yb, own, rules = block.unpack(tensors, scale, pairs, ring, owner)
        more, *part = sigmoid_sweep(x, yb, own, bias, weights, rules, (with_gradients,) * 4, with_values)
        if more is not None:
            values += more
        if with_gradients:
            _add([dx, traveller[0], traveller[1] if scale.dim() else dscale, dbias], part)
            traveller = ring.move(traveller, following)
        for work in works:
            work.wait()
        tensors = arriving
    return (
        values,
        dx.to(x.dtype),
        traveller[0].to(y.dtype),
        (traveller[1] if scale.dim() else dscale).to(scale.dtype),
        dbias.to(bias.dtype),
    )


def _add(totals: list[Tensor], parts: Sequence[Tensor | None]) -> None:
    for total, part in zip(totals, parts, strict=True):
        if part is not None:
            total += part


class _GlobalSum(torch.autograd.Function):
    """The sum over ranks. Each rank's part gets the gradient of the whole: every rank differentiates the same loss."""

    @staticmethod
    def forward(ctx, value: Tensor, group: Group):
        total = value.detach().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad, None


@opaque
def global_sum(value: Tensor, group: Group) -> Tensor:
    return _GlobalSum.apply(value, group)
