"""The contrastive cores over a batch that is split over ranks: this rank's rows meet all columns, block by block.

One round serves both directions: with a block of columns come the sums (forward) or the gradient (backward) of its
columns. All ranks shift by one constant, derived from the largest norms of all. A rank that needs no gradient of its
own takes part all the same, since others may.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..dispatch import opaque
from .chunked import both_sides, largest_norm
from .exchange import Exchange, Tensors
from .forms import Form
from .pairs import Pairs
from .teacher import Best, Teacher, best_for, streams_for
from .tiles import Stream, Sums, Want, arriving_at, compute_dtype, shift_for

_COLUMN_RULES = ("y_ids", "y_views", "y_present")


class _Block:
    """What travels of a batch: features, scales, what the rules know of the columns, and the teacher's columns."""

    def __init__(self, exchange: Exchange, y: Tensor, scale: Tensor, pairs: Pairs, teacher: Teacher | None = None):
        self.exchange, self.scale, self.pairs, self.teacher = exchange, scale, pairs, teacher
        given: dict[str, Tensor | None] = {"y": y, "scale": scale if scale.dim() else None}
        given |= {name: getattr(pairs, name) for name in _COLUMN_RULES}
        if teacher is not None:
            given |= {
                "b": teacher.b, "b_scale": teacher.scale if teacher.scale.dim() else None, "b_lse": teacher.lse[1],
                "b_least": teacher.least[1],
            }  # fmt: skip
        self.tensors: Tensors = []
        self.fields: list[str] = []
        for name, value in given.items():
            if value is not None:
                self.fields.append(name)
                self.tensors.append(value.to(torch.uint8) if value.dtype == torch.bool else value)

    def unpack(self, tensors: Tensors, owner: int) -> tuple[Tensor, Tensor, Pairs, Teacher | None]:
        """(y, scale, rules, teacher) of the block that now lies here."""
        given: dict[str, Any] = dict(zip(self.fields, tensors, strict=True))
        exchange, pairs = self.exchange, self.pairs
        first, count = exchange.first_column(owner), exchange.columns[owner]
        rules: dict[str, Any] = {name: given[name] for name in _COLUMN_RULES if name in given}
        if "y_present" in rules:
            rules["y_present"] = rules["y_present"].bool()
        if isinstance(pairs.weights, Tensor):
            rules["weights"] = pairs.weights[:, first : first + count]
        here = replace(pairs, columns=count, first_row=exchange.first_row, first_column=first, **rules)
        teacher = None
        if self.teacher is not None:
            mine = self.teacher
            teacher = type(mine)(mine.a, given["b"], given.get("b_scale", mine.scale), here, mine.hard)
            teacher.lse = [mine.lse[0], given.get("b_lse")]
            teacher.least = [mine.least[0], given.get("b_least")]
        return given["y"], given.get("scale", self.scale), here, teacher


@opaque
def softmax_sums(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    pairs: Pairs,
    want: Want,
    teacher: Teacher | None,
    exchange: Exchange,
    form: Form,
) -> tuple[Sums | None, Sums | None]:
    """As `chunked.softmax_sums` over the global batch: the sums of this rank's rows and of this rank's columns."""
    want = want._replace(apart=pairs.apart and teacher is None)
    return both_sides(_Softmax.apply(x, y, scale, pairs, want, teacher, exchange, form), want)


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
        form: Form,
    ):
        x, y, scale = x.detach(), y.detach(), scale.detach()
        block = _Block(exchange, y, scale, pairs, teacher)
        # one rank's rows meet another's columns: norms are compared apart
        longest = [exchange.largest(largest_norm(v, s)) for v, s in ((x, None), (y, scale))]
        shift = shift_for(longest[0] * longest[1])
        rows, columns = _sum(x, block, want, shift, form)
        doubtful = any(s is not None and not s.trusted() for s in (rows, columns))
        if shift is not None and exchange.largest(float(doubtful)):
            shift = None
            rows, columns = _sum(x, block, want, shift, form)
        ctx.block, ctx.want, ctx.shift, ctx.form = block, want, shift, form
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
        block: _Block = ctx.block
        form, shift, scale = ctx.form, ctx.shift, block.scale
        of_columns = (column_norm, column_inside, *grads[6:10])
        vectors = [v for v in of_columns if v is not None]
        totals = _Gradients(block.exchange, x, block.tensors[0], scale)

        def visit(owner: int, tensors: Tensors, sums: Tensors) -> Tensors:
            y, own, rules, teacher = block.unpack(tensors[: len(block.tensors)], owner)
            given = iter(tensors[len(block.tensors) :])
            norm, inside, *arrived = (None if v is None else next(given) for v in of_columns)
            arriving = arriving_at(row_norm, row_inside, grads[:4]), arriving_at(norm, inside, arrived)
            if not any(arriving):
                return sums
            return totals.add(sums, *form.gradients(x, y, own, rules, ctx.want, teacher, arriving, shift, (True,) * 3))

        home = block.exchange.round([*block.tensors, *vectors], totals.empty, visit, _add)
        return *_needed(totals.found(home), ctx.needs_input_grad[:3]), None, None, None, None, None


def _sum(x: Tensor, block: _Block, want: Want, shift: float | None, form: Form) -> tuple[Stream | None, Stream | None]:
    """Sums of this rank's rows over all columns, and of its columns over all rows."""
    exchange, dtype = block.exchange, compute_dtype(x, block.tensors[0], block.scale)
    n, m = exchange.whole
    rows = Stream(x.shape[0], m, 1, want, shift, dtype, x.device) if want.rows else None
    columns = _ColumnSums(exchange, n, want, shift, dtype)

    def visit(owner: int, tensors: Tensors, state: Tensors) -> Tensors:
        y, own, rules, teacher = block.unpack(tensors, owner)
        stream = columns.stream(owner, state)
        form.sweep(x, y, own, rules, want, teacher, (rows, stream))
        return columns.state(stream)

    home = exchange.round(block.tensors, columns.empty, visit, columns.absorb)
    return rows, columns.stream(exchange.rank, home)


class _ColumnSums:
    """The sums over the columns of a block, which travel with it as one tensor [columns, quantities]."""

    def __init__(self, exchange: Exchange, rows: int, want: Want, shift: float | None, dtype: torch.dtype):
        self.exchange, self.rows, self.want, self.shift, self.dtype = exchange, rows, want, shift, dtype

    def stream(self, owner: int, state: Tensors | None = None) -> Stream | None:
        if not self.want.columns:
            return None
        count = self.exchange.columns[owner]
        stream = Stream(count, self.rows, 0, self.want, self.shift, self.dtype, self.exchange.device)
        if state is not None:
            stream.restore(state[0].T)
        return stream

    def state(self, stream: Stream | None) -> Tensors:
        return [] if stream is None else [stream.state().T.contiguous()]

    def empty(self, owner: int) -> Tensors:
        return self.state(self.stream(owner))

    def absorb(self, mine: Tensors, theirs: Tensors) -> None:
        stream = self.stream(self.exchange.rank, mine)
        if stream is not None:
            stream.absorb(theirs[0].T)
            mine[:] = self.state(stream)


class _Gradients:
    """Gradients added up over a round: those of this rank's rows here, those of the columns in what travels."""

    def __init__(self, exchange: Exchange, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor | None = None):
        self.exchange, self.like = exchange, (x, y, scale, bias)
        self.dtype = compute_dtype(x, y, scale)
        self.dx = torch.zeros(x.shape, dtype=self.dtype, device=x.device)
        self.dscale = torch.zeros((), dtype=torch.float64, device=x.device)
        self.dbias = torch.zeros((), dtype=torch.float64, device=x.device)

    def empty(self, owner: int) -> Tensors:
        _, y, scale, _ = self.like
        count = self.exchange.columns[owner]
        dy = torch.zeros((count, y.shape[1]), dtype=self.dtype, device=y.device)
        return [dy, torch.zeros(count, dtype=torch.float64, device=y.device)] if scale.dim() else [dy]

    def add(self, sums: Tensors, dx: Tensor, dy: Tensor, dscale: Tensor, dbias: Tensor | None = None) -> Tensors:
        self.dx += dx
        sums[0] += dy
        (sums[1] if len(sums) > 1 else self.dscale).add_(dscale)
        if dbias is not None:
            self.dbias += dbias
        return sums

    def found(self, home: Tensors) -> Tensors:
        """Of x, y, scale and, where there is one, bias, in their dtypes."""
        found = (self.dx, home[0], home[1] if len(home) > 1 else self.dscale, self.dbias)
        return [g.to(t.dtype) for g, t in zip(found, self.like, strict=True) if t is not None]


def _add(mine: Tensors, theirs: Tensors) -> None:
    for a, b in zip(mine, theirs, strict=True):
        a += b


def _needed(found: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
    return [g if need else None for g, need in zip(found, needs, strict=False)]


@opaque
def prepare(teacher: Teacher, want: Want, top_k: int | None, exchange: Exchange) -> None:
    """As `Teacher.prepare` over the global batch."""
    mine, device = (teacher.a.shape[0], teacher.b.shape[0]), teacher.a.device
    best = best_for(mine, exchange.whole, want, top_k, teacher.dtype, device)
    if best != (None, None):
        teacher.least = _bars(teacher, best, exchange)
    rows, _ = streams_for(mine, exchange.whole, want, teacher.dtype, device)
    # as a block's own teacher, so that its bars travel
    block = _Block(exchange, teacher.b, teacher.scale, teacher.pairs, teacher)
    bare = Want(want.rows, want.columns, target=False)
    columns = _ColumnSums(exchange, exchange.whole[0], bare, None, teacher.dtype)

    def visit(owner: int, tensors: Tensors, state: Tensors) -> Tensors:
        here, stream = block.unpack(tensors, owner)[3], columns.stream(owner, state)
        assert here is not None
        here.add_sums((rows, stream))
        return columns.state(stream)

    home = exchange.round(block.tensors, columns.empty, visit, columns.absorb)
    sides = (rows, columns.stream(exchange.rank, home))
    teacher.lse = [None if stream is None else stream.sums().lse for stream in sides]


def _bars(teacher: Teacher, best: tuple[Best | None, Best | None], exchange: Exchange) -> list[Tensor | None]:
    rows, columns = best
    block = _Block(exchange, teacher.b, teacher.scale, teacher.pairs, teacher)

    def empty(owner: int) -> Tensors:
        return [] if columns is None else [columns.empty(exchange.columns[owner]).values]

    def of(state: Tensors) -> Best | None:
        return Best(state[0]) if state else None

    def visit(owner: int, tensors: Tensors, state: Tensors) -> Tensors:
        here = block.unpack(tensors, owner)[3]
        assert here is not None
        here.add_best((rows, of(state)))
        return state

    def absorb(mine: Tensors, theirs: Tensors) -> None:
        if mine:
            Best(mine[0]).add(slice(None), theirs[0])

    found = of(exchange.round(block.tensors, empty, visit, absorb))
    return [None if side is None else side.bars(teacher.rounding()) for side in (rows, found)]


@opaque
def sigmoid_rows(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    weights: Tensor,
    pairs: Pairs,
    summed: bool,
    exchange: Exchange,
    form: Form,
) -> Tensor:
    """As `sigmoid.sigmoid_rows` over the global batch, for this rank's rows."""
    rows = _Sigmoid.apply(x, y, scale, bias, weights.detach(), pairs, summed, exchange, form)
    return rows if summed else rows * weights


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
        exchange: Exchange,
        form: Form,
    ):
        x, scale, bias = x.detach(), scale.detach(), bias.detach()
        block = _Block(exchange, y.detach(), scale, pairs)
        ctx.block, ctx.form, ctx.summed = block, form, summed
        values, found = _sigmoid_round(x, block, bias, weights if summed else None, form, summed, True)
        if summed:
            ctx.save_for_backward(*found)
            return (values * weights).sum()
        ctx.save_for_backward(x, bias)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        if ctx.summed:
            found = [g * grad.to(g.dtype) for g in ctx.saved_tensors]
        else:
            x, bias = ctx.saved_tensors
            _, found = _sigmoid_round(x, ctx.block, bias, grad, ctx.form, True, False)
        return *_needed(found, ctx.needs_input_grad[:4]), None, None, None, None, None


def _sigmoid_round(
    x: Tensor,
    block: _Block,
    bias: Tensor,
    weights: Tensor | None,
    form: Form,
    with_gradients: bool,
    with_values: bool,
) -> tuple[Tensor, Tensors]:
    y, scale = block.tensors[0], block.scale
    values = torch.zeros(x.shape[0], dtype=compute_dtype(x, y, scale), device=x.device)
    totals = _Gradients(block.exchange, x, y, scale, bias)

    def visit(owner: int, tensors: Tensors, sums: Tensors) -> Tensors:
        y, own, rules, _ = block.unpack(tensors, owner)
        more, *found = form.sigmoid_sweep(x, y, own, bias, weights, rules, (with_gradients,) * 4, with_values)
        if more is not None:
            values.add_(more)
        return totals.add(sums, *found) if with_gradients else sums

    home = block.exchange.round(block.tensors, totals.empty if with_gradients else _nothing, visit, _add)
    return values, totals.found(home) if with_gradients else []


def _nothing(owner: int) -> Tensors:
    return []
