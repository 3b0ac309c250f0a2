"""The softmax core over a batch that is split over ranks: this rank's rows meet all columns, block by block.

One round serves both directions: with a block of columns come the sums (forward) or the gradient (backward) of its
columns. All ranks shift by one constant, derived from the largest norms of all. A rank that needs no gradient of its
own takes part all the same, since others may.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...dispatch import opaque
from ..pairs import Pairs
from ..ranks import Exchange, Tensors
from ..ranks.rounds import Block, ColumnSums, Gradients, add_all, needed
from ..sums import Arriving, Sums, Want, arriving_at, both_sides
from ..sums.streams import Stream
from ..targets.chunked import Teacher
from ..tiles.chunked import compute_dtype, largest_norm, shift_for


class Core(Protocol):
    """A form of the softmax core: the sums and the gradients of one block of pairs."""

    def sweep(
        self,
        x: Tensor,
        y: Tensor,
        scale: Tensor,
        pairs: Pairs,
        want: Want,
        teacher: Teacher | None,
        streams: tuple[Stream | None, Stream | None],
    ) -> None: ...

    def gradients(
        self,
        x: Tensor,
        y: Tensor,
        scale: Tensor,
        pairs: Pairs,
        want: Want,
        teacher: Teacher | None,
        arriving: tuple[Arriving | None, Arriving | None],
        shift: float | None,
        needs: tuple[bool, ...],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]: ...


@opaque
def softmax_sums(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    pairs: Pairs,
    want: Want,
    teacher: Teacher | None,
    exchange: Exchange,
    core: Core,
) -> tuple[Sums | None, Sums | None]:
    """As `chunked.softmax_sums` over the global batch: the sums of this rank's rows and of this rank's columns."""
    want = want._replace(apart=pairs.apart and teacher is None)
    return both_sides(_Softmax.apply(x, y, scale, pairs, want, teacher, exchange, core), want)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        y: Tensor,
        scale: Tensor,
        pairs: Pairs,
        want: Want,
        teacher: Teacher | None,
        exchange: Exchange,
        core: Core,
    ):
        x, y, scale = x.detach(), y.detach(), scale.detach()
        block = Block(exchange, y, scale, pairs, teacher)
        # one rank's rows meet another's columns: norms are compared apart
        longest = [exchange.largest(largest_norm(v, s)) for v, s in ((x, None), (y, scale))]
        shift = shift_for(longest[0] * longest[1])
        rows, columns = _sum(x, block, want, shift, core)
        doubtful = any(s is not None and not s.trusted() for s in (rows, columns))
        if shift is not None and exchange.largest(float(doubtful)):
            shift = None
            rows, columns = _sum(x, block, want, shift, core)
        ctx.block, ctx.want, ctx.shift, ctx.core = block, want, shift, core
        kept = [v for stream in (rows, columns) for v in ((None, None) if stream is None else stream.norms())]
        ctx.save_for_backward(x, *kept)
        sides = [None if s is None else s.sums() for s in (rows, columns)]
        flat = tuple(v for side in sides for v in ([None] * 6 if side is None else side))
        ctx.mark_non_differentiable(*(v for k in (4, 5, 10, 11) if (v := flat[k]) is not None))
        ctx.set_materialize_grads(False)
        return flat

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, row_norm, row_inside, column_norm, column_inside = ctx.saved_tensors
        block: Block = ctx.block
        core, shift, scale = ctx.core, ctx.shift, block.scale
        of_columns = (column_norm, column_inside, *grads[6:10])
        vectors = [v for v in of_columns if v is not None]
        totals = Gradients(block.exchange, x, block.tensors[0], scale)

        def visit(owner: int, tensors: Tensors, sums: Tensors) -> Tensors:
            y, own, rules, teacher = block.unpack(tensors[: len(block.tensors)], owner)
            given = iter(tensors[len(block.tensors) :])
            norm, inside, *arrived = (None if v is None else next(given) for v in of_columns)
            arriving = arriving_at(row_norm, row_inside, grads[:4]), arriving_at(norm, inside, arrived)
            if not any(arriving):
                return sums
            return totals.add(sums, *core.gradients(x, y, own, rules, ctx.want, teacher, arriving, shift, (True,) * 3))

        home = block.exchange.round([*block.tensors, *vectors], totals.empty, visit, add_all)
        return *needed(totals.found(home), ctx.needs_input_grad[:3]), None, None, None, None, None


def _sum(x: Tensor, block: Block, want: Want, shift: float | None, core: Core) -> tuple[Stream | None, Stream | None]:
    """Sums of this rank's rows over all columns, and of its columns over all rows."""
    exchange, dtype = block.exchange, compute_dtype(x, block.tensors[0], block.scale)
    n, m = exchange.whole
    rows = Stream(x.shape[0], m, 1, want, shift, dtype, x.device) if want.rows else None
    columns = ColumnSums(exchange, n, want, shift, dtype)

    def visit(owner: int, tensors: Tensors, state: Tensors) -> Tensors:
        y, own, rules, teacher = block.unpack(tensors, owner)
        stream = columns.stream(owner, state)
        core.sweep(x, y, own, rules, want, teacher, (rows, stream))
        return columns.state(stream)

    home = exchange.round(block.tensors, columns.empty, visit, columns.absorb)
    return rows, columns.stream(exchange.rank, home)
