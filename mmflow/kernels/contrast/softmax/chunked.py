"""The softmax core over dot products in streaming PyTorch: tiles of at most 4 MiB, recomputed in the backward."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...dispatch import opaque
from ...products import add_times, times_transposed
from ..pairs import Pairs
from ..sums import Arriving, Sums, Want, arriving_at, both_sides
from ..sums.slopes import Slope
from ..sums.streams import Stream, streams_for
from ..targets.chunked import Teacher
from ..tiles.chunked import (
    TILE,
    Buffers,
    compute_dtype,
    diagonal,
    largest_score,
    marks,
    precise_dtype,
    shift_for,
    spans,
    unit_for,
)


@opaque
def softmax_sums(
    x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, want: Want, teacher: Teacher | None = None
) -> tuple[Sums | None, Sums | None]:
    """The sums over the rows and over the columns of scores <x_i, y_j> * scale_j, differentiable in x, y and scale.

    Args:
        x: [N, D]. y: [M, D]. scale: [] or [M], the inverse temperature.

    Cost: 2NMD FLOP forward, 6NMD backward, one exponential per pair in each where the scores' range allows it.
    Memory: inputs, gradients, and three tiles.
    """
    want = want._replace(apart=pairs.apart and teacher is None)
    return both_sides(_Softmax.apply(x, y, scale, pairs, want, teacher), want)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, want: Want, teacher: Teacher | None):
        x, y, scale = x.detach(), y.detach(), scale.detach()
        shift = shift_for(largest_score(x, y, scale))
        streams = streams_for(x, y, scale, want, shift)
        sweep(x, y, scale, pairs, want, teacher, streams)
        if shift is not None and not all(s is None or s.trusted() for s in streams):
            shift = None
            streams = streams_for(x, y, scale, want, shift)
            sweep(x, y, scale, pairs, want, teacher, streams)
        sides = [None if s is None else s.sums() for s in streams]
        ctx.pairs, ctx.want, ctx.teacher, ctx.shift = pairs, want, teacher, shift
        kept = [v for stream in streams for v in ((None, None) if stream is None else stream.norms())]
        ctx.save_for_backward(x, y, scale, *kept)
        flat = tuple(v for side in sides for v in ([None] * 6 if side is None else side))
        ctx.mark_non_differentiable(*(v for k in (4, 5, 10, 11) if (v := flat[k]) is not None))
        ctx.set_materialize_grads(False)
        return flat

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y, scale, row_norm, row_inside, column_norm, column_inside = ctx.saved_tensors
        arriving = (
            arriving_at(row_norm, row_inside, grads[:4]), arriving_at(column_norm, column_inside, grads[6:10])
        )  # fmt: skip
        if not any(arriving):
            return (None,) * 6
        dx, dy, dscale = gradients(
            x, y, scale, ctx.pairs, ctx.want, ctx.teacher, arriving, ctx.shift, needs=ctx.needs_input_grad[:3]
        )
        return dx, dy, dscale, None, None, None


def sweep(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    pairs: Pairs,
    want: Want,
    teacher: Teacher | None,
    streams: tuple[Stream | None, Stream | None],
) -> None:
    """Adds all pairs of x and y to the streams."""
    dtype, device = compute_dtype(x, y, scale), x.device
    n, m = x.shape[0], y.shape[0]
    sides = [(k, s) for k, s in enumerate(streams) if s is not None]
    shift = sides[0][1].shift
    buffers = Buffers(dtype, device, n, m)
    unit = unit_for(shift)
    for c in spans(m, TILE):
        yc = y[c].to(dtype) * ((scale if scale.dim() == 0 else scale[c, None]).to(dtype) * unit)
        for r in spans(n, TILE):
            scores = buffers.get("scores", r.stop - r.start, c.stop - c.start)
            scores = times_transposed(x[r].to(dtype), yc, out=scores)
            positive, excluded = marks(pairs, r, c, scores)
            weight = pairs.weight(r, c)
            for k, side in sides:
                at = c if k else r
                side.count(at, scores, positive if teacher is None else None, excluded)
                if teacher is not None:
                    if side.target is not None:
                        side.target[at] += (teacher.block(k, r, c) * scores).sum(side.dim)
                elif pairs.plain:
                    side.count_diagonal(at, scores, *pairs.diagonal_of(r, c))
            if shift is None:
                if want.apart:
                    diagonal(scores, *pairs.diagonal_of(r, c)).fill_(-torch.inf)
                if excluded is not None:
                    scores.masked_fill_(excluded, -torch.inf)
                for k, side in sides:
                    side.add_running(c if k else r, scores, weight)
                continue
            if shift:
                scores.sub_(shift * unit)
            scores.exp2_()
            if want.apart:
                diagonal(scores, *pairs.diagonal_of(r, c)).zero_()
            if want.inside and positive is not None:
                for k, side in sides:
                    side.add_inside(c if k else r, scores * positive)
            if excluded is not None:
                scores.mul_(~excluded)
            if weight is not None:
                scores.mul_(weight)
            for k, side in sides:
                side.add_shifted(c if k else r, scores)


def gradients(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    pairs: Pairs,
    want: Want,
    teacher: Teacher | None,
    arriving: tuple[Arriving | None, Arriving | None],
    shift: float | None,
    needs: tuple[bool, ...],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients for x, y and scale (what is needed) from all pairs of x and y."""
    dtype, device = compute_dtype(x, y, scale), x.device
    n, m = x.shape[0], y.shape[0]
    dx = torch.zeros(x.shape, dtype=dtype, device=device) if needs[0] else None
    dy = torch.empty(y.shape, dtype=dtype, device=device) if needs[1] else None
    # in double: the sum over tiles mixes signs and ends near zero at convergence
    dscale = torch.zeros(m, dtype=precise_dtype(device, dtype), device=device) if needs[2] else None
    sides = [
        (k, Slope(1 - k, given, shift, dtype, want.apart)) for k, given in enumerate(arriving) if given is not None
    ]
    buffers = Buffers(dtype, device, n, m)
    unit = unit_for(shift)
    for c in spans(m, TILE):
        own_scale = (scale if scale.dim() == 0 else scale[c]).to(dtype) * unit
        yc = y[c].to(dtype) * (own_scale[:, None] if scale.dim() else own_scale)
        dyc = torch.zeros(yc.T.shape, dtype=dtype, device=device) if dy is not None else None
        for r in spans(n, TILE):
            shape = (r.stop - r.start, c.stop - c.start)
            xr = x[r].to(dtype)
            scores = times_transposed(xr, yc, out=buffers.get("scores", *shape))
            g = _tile_gradient(scores, r, c, pairs, teacher, sides, shift, buffers)
            if dscale is not None:
                dscale[c] += torch.mul(g, scores, out=scores).sum(0)
            if dx is not None:
                add_times(dx[r], g, yc, coarse=True)
            if dyc is not None:
                add_times(dyc, xr.T, g, coarse=True)
        if dy is not None and dyc is not None:
            torch.mul(dyc.T, own_scale[:, None] if scale.dim() else own_scale, out=dy[c])
    if dscale is not None:
        dscale = dscale / scale if scale.dim() else dscale.sum() / scale
        dscale = dscale.to(scale.dtype)
    return (
        None if dx is None else dx.to(x.dtype),
        None if dy is None else dy.to(y.dtype),
        dscale,
    )


def _tile_gradient(
    scores: Tensor,
    r: slice,
    c: slice,
    pairs: Pairs,
    teacher: Teacher | None,
    sides: list[tuple[int, Slope]],
    shift: float | None,
    buffers: Buffers,
) -> Tensor:
    """The gradient with respect to a tile of scores (times their unit), positives subtracted before any rounding."""
    positive, excluded = marks(pairs, r, c, scores)
    weight = pairs.weight(r, c)
    if shift is None:
        g = torch.zeros_like(scores)
        for k, side in sides:
            g.add_(side.running(scores, c if k else r, positive, excluded, weight))
        if sides[0][1].apart:
            diagonal(g, *pairs.diagonal_of(r, c)).zero_()
    else:
        g = buffers.get("gradient", *scores.shape)
        torch.sub(scores, shift * unit_for(shift), out=g).exp2_() if shift else torch.exp2(scores, out=g)
        inside = None
        if positive is not None and any(s.inside_factor is not None for _, s in sides):
            inside = g * positive
        if excluded is not None:
            g.mul_(~excluded)
        if sides[0][1].apart:
            diagonal(g, *pairs.diagonal_of(r, c)).zero_()
        if weight is not None:
            g.mul_(weight)
        g.mul_(_outer_sum([(s, s.factor, c if k else r) for k, s in sides], buffers, scores.shape))
        if inside is not None:
            parts = [(s, s.inside_factor, c if k else r) for k, s in sides if s.inside_factor is not None]
            g.addcmul_(inside, _outer_sum(parts, buffers, scores.shape))
    for k, side in sides:
        at = c if k else r
        soft = teacher.block(k, r, c) if teacher is not None and side.g_target is not None else None
        side.add_linear(g, at, positive, excluded, soft)
        if pairs.plain and teacher is None:
            side.add_diagonal(g, at, *pairs.diagonal_of(r, c))
    return g


def _outer_sum(parts: list[tuple[Slope, Tensor, slice]], buffers: Buffers, shape: torch.Size) -> Tensor:
    vectors = [side.of(factor, at) for side, factor, at in parts]
    if len(vectors) == 1:
        return vectors[0].expand(shape)
    return torch.add(vectors[0], vectors[1], out=buffers.get("outer", *shape))
