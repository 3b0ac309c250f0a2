"""The softmax core in Triton: sums and gradients of a whole batch, and of one block of a batch that is split.

A whole batch is computed without reading anything back to the host: whether one shift serves is a flag on the device.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...dispatch import opaque
from ..pairs import Pairs
from ..sums import Arriving, Sums, Want, both_sides
from ..sums.streams import Stream
from ..targets.chunked import Teacher
from ..targets.fused import Soft, soft_of
from ..tiles.chunked import BOUND
from ..tiles.fused import LOG2E, Sizes, common, sizes_for
from . import fused_gradient
from .fused_gradient import Side, level_of, side_of
from .fused_sums import ALLOWED, INSIDE, POSITIVES, SUM, TARGET, TOTAL, running, statistics


@opaque
def softmax_sums(
    x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, want: Want, teacher: Teacher | None = None
) -> tuple[Sums | None, Sums | None]:
    """As `chunked.softmax_sums`; pair weights are a tensor."""
    want = want._replace(apart=pairs.apart and teacher is None)
    return both_sides(_Softmax.apply(x, y, scale, pairs, want, teacher), want)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, want: Want, teacher: Teacher | None):
        (xs, ys), scale = common(x.detach(), y.detach()), scale.detach().float().contiguous()
        soft = None if teacher is None else soft_of(teacher)
        sizes = _sizes(xs, soft)
        bound = _largest_score(xs, ys, scale)
        # a whole number: see `shift_for`
        shift2 = ((bound - 70).clamp(0, BOUND - 70) * LOG2E).floor()
        shift = shift2.double() / LOG2E
        sides = _both_sides(xs, ys, scale, shift2, pairs, want, soft, sizes)
        wide = bound > BOUND
        for side, other in zip(sides, (y.shape[0], x.shape[0]), strict=True):
            if side is not None:
                least, known, counted = 1e-31 * other, side.lse, side.allowed
                if want.apart and side.target is not None:
                    # the lost terms of the others count beside the positive only
                    known = known + torch.where(side.positives > 0, (side.target - shift).exp(), 0.0)
                    counted = counted - side.positives
                wide = wide | ((known < least) & (counted > 0)).any()
                if side.inside is not None:
                    wide = wide | ((side.inside < least) & (side.positives > 0)).any()
        flag = wide.to(torch.int32).reshape(1)
        flat, kept = [], []
        for k, side in enumerate(sides):
            if side is None:
                flat += [None] * 6
                kept += [None] * 4
                continue
            again = running(xs, ys, scale, flag, pairs, want, k, sizes)
            lse = torch.where(wide, again / LOG2E, side.lse.log() + shift)
            inside = inside_again = None
            if side.inside is not None:
                inside_again = running(xs, ys, scale, flag, pairs, want, k, sizes, inside=True)
                inside = torch.where(wide, inside_again / LOG2E, side.inside.log() + shift)
            flat += [lse, side.target, side.total, inside, side.allowed, side.positives]
            kept += [side.lse, again, side.inside, inside_again]
        ctx.save_for_backward(xs, ys, scale, shift2, flag, *kept)
        ctx.pairs, ctx.want, ctx.soft, ctx.dtypes = pairs, want, soft, (x.dtype, y.dtype)
        ctx.mark_non_differentiable(*(v for k in (4, 5, 10, 11) if (v := flat[k]) is not None))
        ctx.set_materialize_grads(False)
        return tuple(flat)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y, scale, shift2, flag, *kept = ctx.saved_tensors
        sides = []
        for k in (0, 1):
            total, lse2, inside, inside_lse2 = kept[4 * k : 4 * k + 4]
            pair = None if inside is None else (inside, inside_lse2)
            sides.append(None if total is None else side_of(total, lse2, pair, flag, grads[6 * k : 6 * k + 4]))
        if not any(sides):
            return (None,) * 6
        level = level_of([*grads[:4], *grads[6:10]], scale)
        dx, dy, dscale = fused_gradient.gradients(
            x, y, scale, shift2, flag, level, ctx.pairs, ctx.want, ctx.soft, (sides[0], sides[1]),
            ctx.needs_input_grad[:3], _sizes(x, ctx.soft),
        )  # fmt: skip
        return _in(dx, ctx.dtypes[0]), _in(dy, ctx.dtypes[1]), dscale, None, None, None


def sweep(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    pairs: Pairs,
    want: Want,
    teacher: Teacher | None,
    streams: tuple[Stream | None, Stream | None],
) -> None:
    """As `chunked.sweep`: adds all pairs of x and y to the streams."""
    (x, y), scale = common(x, y), scale.float().contiguous()
    soft = None if teacher is None else soft_of(teacher)
    sizes = _sizes(x, soft)
    shift = next(stream.shift for stream in streams if stream is not None)
    shift2 = torch.full((), (shift or 0.0) * LOG2E, device=x.device)
    needed = torch.full((1,), int(shift is None), dtype=torch.int32, device=x.device)
    sides = _both_sides(x, y, scale, shift2, pairs, want, soft, sizes)
    for k, (stream, side) in enumerate(zip(streams, sides, strict=True)):
        if stream is None or side is None:
            continue
        if shift is None:
            side = side._replace(lse=running(x, y, scale, needed, pairs, want, k, sizes) / LOG2E)
            if want.inside:
                side = side._replace(inside=running(x, y, scale, needed, pairs, want, k, sizes, inside=True) / LOG2E)
        stream.add_sums(side)


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
    """As `chunked.gradients`, in float32."""
    (x, y), scale = common(x, y), scale.float().contiguous()
    soft = None if teacher is None else soft_of(teacher)
    flag = torch.full((1,), int(shift is None), dtype=torch.int32, device=x.device)
    sides: list[Side | None] = [None, None]
    for k, given in enumerate(arriving):
        if given is not None:
            # shifted, norms are sums; running, they are log-sum-exps
            inside = None if given.inside is None else (given.inside, given.inside * LOG2E)
            sides[k] = side_of(given.norm, given.norm * LOG2E, inside, flag, given.grads)
    grads = [g for given in arriving if given is not None for g in given.grads]
    _, target, total, inside = (any(g is not None for g in grads[k::4]) for k in range(4))
    want = Want(sides[0] is not None, sides[1] is not None, target, total, inside, want.apart)
    return fused_gradient.gradients(
        x, y, scale, torch.full((), (shift or 0.0) * LOG2E, device=x.device), flag, level_of(grads, scale), pairs, want,
        soft, (sides[0], sides[1]), needs, _sizes(x, soft),
    )  # fmt: skip


def _both_sides(
    x: Tensor, y: Tensor, scale: Tensor, shift2: Tensor, pairs: Pairs, want: Want, soft: Soft | None, sizes: Sizes
) -> list[Sums | None]:
    """Sums of rows and of columns; `lse` and `inside` are sums of exp2(score - shift) instead of logarithms."""
    found = statistics(x, y, scale, shift2, pairs, want, soft, sizes)
    sides: list[Sums | None] = []
    for k, half in enumerate(found):
        part = None if half is None else half.double()
        if part is None:
            sides.append(None)
            continue
        target = part[TARGET] / LOG2E if len(part) > TARGET else None
        if pairs.plain:
            allowed = torch.full_like(part[SUM], x.shape[0] if k else y.shape[0])
            scores, positives = _on_diagonal(x, y, scale, pairs, k, len(allowed))
            target = scores if target is None else target
        else:
            allowed, positives = part[ALLOWED], part[POSITIVES]
        sides.append(
            Sums(
                part[SUM], target if want.target else None, part[TOTAL] / LOG2E if want.total else None,
                part[INSIDE] if want.inside else None, allowed, positives,
            )
        )  # fmt: skip
    return sides


def _sizes(x: Tensor, soft: Soft | None) -> Sizes:
    # a teacher's scores are cut alike whatever the student's dtype: bars and targets see the same bits
    return sizes_for(x.dtype if soft is None else torch.float32)


def _in(gradient: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if gradient is None else gradient.to(dtype)


def _on_diagonal(x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, side: int, size: int) -> tuple[Tensor, Tensor]:
    """Scores of the positives, placed at their rows (side 0) or columns, and how many each has."""
    (row, column), length = pairs.diagonal_of(slice(0, pairs.rows), slice(0, pairs.columns))
    own = scale[column : column + length] if scale.dim() else scale
    # in base 2, rounded as the kernels round their scores
    scores = (x[row : row + length].float() * y[column : column + length].float()).sum(1) * (own * LOG2E)
    at = slice(row, row + length) if side == 0 else slice(column, column + length)
    target, positives = torch.zeros(2, size, dtype=torch.float64, device=x.device)
    target[at], positives[at] = scores.double() / LOG2E, 1.0
    return target, positives


def _largest_score(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(y, dim=1, dtype=torch.float32) * scale.abs()
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float32).amax() * norms.amax()
