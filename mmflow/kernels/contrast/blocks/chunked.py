"""The softmax and the sigmoid core over the blocks of any score: values that a block needs again are computed again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ...dispatch import opaque
from ..pairs import Pairs
from ..sums import Want, arriving_at
from ..sums.slopes import Slope
from ..sums.streams import Stream
from ..tiles.chunked import spans

Rows = dict[str, Tensor]

Scored = Tensor | tuple[Tensor, Tensor]

Score = Callable[[Rows, Rows], Scored]


@dataclass(frozen=True)
class _Call:
    """The arguments of a block function beside tensors."""

    score: Score
    a_keys: tuple[str, ...]
    b_keys: tuple[str, ...]
    pairs: Pairs
    want: Want | None
    block: int

    def visits(self) -> Iterable[tuple[slice, slice]]:
        for r in spans(self.pairs.rows, self.block):
            for c in spans(self.pairs.columns, self.block):
                if isinstance(self.pairs, _Diagonal) and r.start != c.start:
                    continue
                yield r, c


class _Diagonal(Pairs):
    """Rules under which only the pairs (i, i) exist."""

    def block(self, r: slice, c: slice, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        positive, excluded = super().block(r, c, device)
        if positive is None:
            positive = torch.zeros(r.stop - r.start, c.stop - c.start, dtype=torch.bool, device=device)
        off = ~torch.eye(r.stop - r.start, c.stop - c.start, dtype=torch.bool, device=device)
        return positive, off if excluded is None else off | excluded


def only_diagonal(pairs: Pairs, n: int) -> Pairs:
    return _Diagonal(
        n, n, "diagonal", x_present=pairs.x_present, y_present=pairs.y_present,
        without_positives=pairs.without_positives, weights=pairs.weights,
    )  # fmt: skip


@opaque
def softmax_blocks(
    score: Score, a: Rows, b: Rows, params: tuple[Tensor, ...], scale: Tensor, pairs: Pairs, want: Want, block: int
) -> tuple[Tensor, ...]:
    """The twelve tensors of `both_sides`, differentiable in a, b, params and scale."""
    call = _Call(score, tuple(a), tuple(b), pairs, want, block)
    return _Softmax.apply(call, scale, None, *a.values(), *b.values(), *params)


@opaque
def sigmoid_blocks(
    score: Score, a: Rows, b: Rows, params: tuple[Tensor, ...], scale: Tensor, pairs: Pairs, block: int, bias: Tensor
) -> Tensor:
    """The sum of the losses of each row, differentiable in a, b, params, scale and bias."""
    call = _Call(score, tuple(a), tuple(b), pairs, None, block)
    return _Sigmoid.apply(call, scale, bias, *a.values(), *b.values(), *params)


def _scores(call: _Call, a: list[Tensor], b: list[Tensor], r: slice, c: slice) -> tuple[Tensor, ...]:
    rows = {k: t[r] for k, t in zip(call.a_keys, a, strict=True)}
    columns = {k: t[c] for k, t in zip(call.b_keys, b, strict=True)}
    return _checked(call.score(rows, columns), r, c)


def _checked(result: Scored, r: slice, c: slice) -> tuple[Tensor, ...]:
    tiles = result if isinstance(result, tuple) else (result,)
    for tile in tiles:
        if tile.shape != (r.stop - r.start, c.stop - c.start):
            raise ValueError(
                f"contrast_blocks: the score gave {tuple(tile.shape)} for {r.stop - r.start} rows and "
                f"{c.stop - c.start} columns; a block of scores is [rows, columns]"
            )
    return tiles


def _split(call: _Call, tensors: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    i, j = len(call.a_keys), len(call.a_keys) + len(call.b_keys)
    return list(tensors[:i]), list(tensors[i:j]), list(tensors[j:])


def _backward_blocks(ctx, tile_gradients) -> tuple[Tensor | None, list[Tensor | None]]:
    """Every block again under autograd; `tile_gradients(r, c, logits)` gives the gradient of each logits tile."""
    scale, _, *tensors = ctx.saved_tensors
    call: _Call = ctx.call
    needs = ctx.needs_input_grad[3:]
    a, b, params = _split(call, tuple(tensors))
    totals = [torch.zeros_like(t) if need else None for t, need in zip(tensors, needs, strict=True)]
    dscale = torch.zeros_like(scale, dtype=torch.float64) if ctx.needs_input_grad[1] else None
    device, autocast, autocast_dtype = ctx.autocast
    for r, c in call.visits():
        with torch.enable_grad(), torch.autocast(device, autocast_dtype, enabled=autocast):
            leaves = [t[r].detach().requires_grad_(need) for t, need in zip(a, needs, strict=False)]
            leaves += [t[c].detach().requires_grad_(need) for t, need in zip(b, needs[len(a) :], strict=False)]
            tiles = _scores_of_leaves(call, leaves, r, c)
        own = scale if scale.dim() == 0 else scale[None, c]
        gradients = tile_gradients(r, c, [t.detach().to(scale.dtype) * own for t in tiles])
        if dscale is not None:
            for tile, g in zip(tiles, gradients, strict=True):
                part = (tile.detach() * g).sum(0, dtype=torch.float64)
                if scale.dim():
                    dscale[c] += part
                else:
                    dscale += part.sum()
        sources = [t for t in (*leaves, *params) if t.requires_grad]
        live = [(t, (g * own).to(t.dtype)) for t, g in zip(tiles, gradients, strict=True) if t.requires_grad]
        if not live or not sources:
            continue
        found = torch.autograd.grad([t for t, _ in live], sources, [g for _, g in live], allow_unused=True)
        by_source = {id(s): g for s, g in zip(sources, found, strict=True)}
        for k, leaf in enumerate((*leaves, *params)):
            total, g = totals[k], by_source.get(id(leaf))
            if total is None or g is None:
                continue
            at = r if k < len(a) else c if k < len(a) + len(b) else slice(None)
            if total.dim():
                total[at] += g
            else:
                total += g
    return None if dscale is None else dscale.to(scale.dtype), totals


def _autocast(device: str) -> tuple[str, bool, torch.dtype]:
    return device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


def _scores_of_leaves(call: _Call, leaves: list[Tensor], r: slice, c: slice) -> tuple[Tensor, ...]:
    rows = dict(zip(call.a_keys, leaves, strict=False))
    columns = dict(zip(call.b_keys, leaves[len(call.a_keys) :], strict=True))
    return _checked(call.score(rows, columns), r, c)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: _Call, scale: Tensor, bias: None, *tensors: Tensor):
        scale = scale.detach()
        a, b, _ = _split(call, tensors)
        pairs, want = call.pairs, call.want
        assert want is not None
        n, m, device = pairs.rows, pairs.columns, scale.device
        rows = Stream(n, m, 1, want, None, scale.dtype, device) if want.rows else None
        columns = Stream(m, n, 0, want, None, scale.dtype, device) if want.columns else None
        for r, c in call.visits():
            own = scale if scale.dim() == 0 else scale[None, c]
            tiles = [t.to(scale.dtype) * own for t in _scores(call, a, b, r, c)]
            positive, excluded = pairs.block(r, c, device)
            weight = pairs.weight(r, c)
            for side, tile, at in ((rows, tiles[0], r), (columns, tiles[-1], c)):
                if side is None:
                    continue
                side.count(at, tile, positive, excluded)
                kept = tile if excluded is None else tile.masked_fill(excluded, -torch.inf)
                if want.apart and positive is not None:
                    kept = kept.masked_fill(positive, -torch.inf)
                side.add_running(at, kept, weight)
        sides = [None if s is None else s.sums() for s in (rows, columns)]
        ctx.call, ctx.autocast = call, _autocast(scale.device.type)
        ctx.sides = [None if s is None else (s.lse, s.inside) for s in sides]
        ctx.save_for_backward(scale, None, *tensors)
        ctx.set_materialize_grads(False)
        flat = tuple(v for side in sides for v in ([None] * 6 if side is None else side))
        ctx.mark_non_differentiable(*(v for k in (4, 5, 10, 11) if (v := flat[k]) is not None))
        return flat

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None):  # pyright: ignore[reportIncompatibleMethodOverride]
        pairs: Pairs = ctx.call.pairs
        kept = [(None, None) if s is None else s for s in ctx.sides]
        arriving = [arriving_at(lse, inside, grads[6 * k : 6 * k + 4]) for k, (lse, inside) in enumerate(kept)]
        dtype = ctx.saved_tensors[0].dtype
        slopes = [None if given is None else Slope(1 - k, given, None, dtype) for k, given in enumerate(arriving)]

        def tile_gradients(r: slice, c: slice, logits: list[Tensor]) -> list[Tensor]:
            positive, excluded = pairs.block(r, c, logits[0].device)
            weight = pairs.weight(r, c)
            apart = positive if ctx.call.want.apart else None
            out = [torch.zeros_like(t) for t in logits]
            for k, side in enumerate(slopes):
                if side is None:
                    continue
                at, tile = (r, 0) if k == 0 else (c, len(logits) - 1)
                g = side.running(logits[tile], at, positive, excluded, weight)
                g = g if apart is None else g.masked_fill(apart, 0)
                side.add_linear(g, at, positive, excluded, None)
                out[tile] += g
            return out

        dscale, totals = _backward_blocks(ctx, tile_gradients)
        return None, dscale, None, *totals


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: _Call, scale: Tensor, bias: Tensor, *tensors: Tensor):
        scale, bias = scale.detach(), bias.detach()
        a, b, _ = _split(call, tensors)
        pairs = call.pairs
        values = torch.zeros(pairs.rows, dtype=scale.dtype, device=scale.device)
        for r, c in call.visits():
            own = scale if scale.dim() == 0 else scale[None, c]
            tiles = [t.to(scale.dtype) * own + bias for t in _scores(call, a, b, r, c)]
            for tile in tiles:
                values[r] += _sigmoid_losses(tile, pairs, r, c).sum(1) / len(tiles)
        ctx.call, ctx.autocast = call, _autocast(scale.device.type)
        ctx.save_for_backward(scale, bias, *tensors)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        pairs: Pairs = ctx.call.pairs
        bias = ctx.saved_tensors[1]
        dbias = torch.zeros_like(bias, dtype=torch.float64)

        def tile_gradients(r: slice, c: slice, logits: list[Tensor]) -> list[Tensor]:
            positive, excluded = pairs.block(r, c, bias.device)
            weight = pairs.weight(r, c)
            out = []
            for tile in logits:
                shifted = tile + bias
                g = (
                    shifted.sigmoid()
                    if positive is None
                    else torch.where(positive, -(-shifted).sigmoid(), shifted.sigmoid())
                )
                g = g * grad[r, None] / len(logits)
                if weight is not None:
                    g = g * weight
                out.append(g if excluded is None else g.masked_fill(excluded, 0))
                dbias.add_(out[-1].sum(dtype=torch.float64))
            return out

        dscale, totals = _backward_blocks(ctx, tile_gradients)
        return None, dscale, dbias.to(bias.dtype), *totals


def _sigmoid_losses(shifted: Tensor, pairs: Pairs, r: slice, c: slice) -> Tensor:
    positive, excluded = pairs.block(r, c, shifted.device)
    weight = pairs.weight(r, c)
    signed = shifted if positive is None else torch.where(positive, -shifted, shifted)
    losses = -F.logsigmoid(-signed)
    if weight is not None:
        losses = losses * weight
    return losses if excluded is None else losses.masked_fill(excluded, 0)
