"""Tiles in Triton: scores, the rules over their pairs, and the products of their gradients.

Kernels are launched on static grids, every sum has one writer and one order, and nothing is read back to the host, so
that a call gives the same bits every time and can be captured in a CUDA graph.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...dispatch import interpreted
from ..pairs import Pairs

LOG2E = 1.4426950408889634

SUPER = 4096

_LOG2E = tl.constexpr(LOG2E)


@dataclass(frozen=True)
class Sizes:
    """Tile sizes of a launch: BM rows, BN columns, BK features at a time."""

    BM: int
    BN: int
    BK: int
    warps: int
    stages: int
    super_tile: int

    def meta(self) -> dict[str, int]:
        blocks = {"BM": self.BM, "BN": self.BN, "BK": self.BK}
        return blocks if interpreted() else blocks | {"num_warps": self.warps, "num_stages": self.stages}


def sizes_for(dtype: torch.dtype) -> Sizes:
    if interpreted():
        return Sizes(16, 32, 16, 4, 1, 64)
    if dtype == torch.float32:
        return Sizes(64, 128, 32, 4, 3, SUPER)
    return Sizes(128, 128, 64, 8, 3, SUPER)


def programs(device: torch.device) -> int:
    """How many programs run at once: a static grid is cut to this."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).multi_processor_count
    return 4


def precision_of(dtype: torch.dtype) -> str:
    """How tiles are multiplied: float32 in three tf32 products, or one where torch was told that this is enough.

    The interpreter multiplies the bits of bfloat16 numbers as integers, and is given float32 instead.
    """
    if dtype == torch.bfloat16 and interpreted():
        return "widened"
    if dtype != torch.float32:
        return "ieee"
    return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def common(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both matrices in one dtype with contiguous features, as the kernels read them."""
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = x.to(dtype), y.to(dtype)
    return (x if x.stride(1) == 1 else x.contiguous()), (y if y.stride(1) == 1 else y.contiguous())


class Rules(NamedTuple):
    """`Pairs` as kernels read them, as one argument: pointers are None where there is no such rule."""

    diagonal: int
    x_ids: Tensor | None
    y_ids: Tensor | None
    x_views: Tensor | None
    y_views: Tensor | None
    x_present: Tensor | None
    y_present: Tensor | None
    weights: Tensor | None
    weight_row: int
    weight_column: int


class Kinds(NamedTuple):
    """The rules of `Pairs` that carry no data, as one constant of a kernel."""

    plain: bool
    by_diagonal: bool
    by_ids: bool
    without_self: bool
    without_same_id: bool
    without_same_view: bool
    without_positives: bool


def rules_of(pairs: Pairs, device: torch.device) -> tuple[Rules, Kinds]:
    """The two arguments by which kernels know the rules. Weights are read where they lie, in their own strides."""

    def moved(values: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        return None if values is None else values.to(device=device, dtype=dtype).contiguous()

    weights = pairs.weights
    if weights is not None:
        assert isinstance(weights, Tensor)
        weights = weights.view(torch.uint8) if weights.dtype == torch.bool else weights
    rules = Rules(
        pairs.first_row - pairs.first_column,
        moved(pairs.x_ids, torch.int64),
        moved(pairs.y_ids, torch.int64),
        moved(pairs.x_views, torch.int64),
        moved(pairs.y_views, torch.int64),
        moved(pairs.x_present, torch.int8),
        moved(pairs.y_present, torch.int8),
        weights,
        0 if weights is None else weights.stride(0),
        0 if weights is None else weights.stride(1),
    )
    kinds = Kinds(
        pairs.plain,
        pairs.positives == "diagonal",
        pairs.positives == "ids",
        pairs.without_self,
        pairs.without_same_id,
        pairs.without_same_view,
        pairs.without_positives,
    )
    return rules, kinds


@triton.jit
def multiply(a, b, acc, PRECISION: tl.constexpr):
    if PRECISION == "widened":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def score_tile(
    x, y, i, j, N, M, D, sx, sy, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """[BM, BN] of <x_i, y_j>, accumulated in float32."""
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    rows = i.to(tl.int64)[:, None] * sx
    columns = j.to(tl.int64)[None, :] * sy
    for start in range(0, D, BK):
        k = start + tl.arange(0, BK)
        a = tl.load(x + rows + k[None, :], mask=(i < N)[:, None] & (k < D)[None, :], other=0.0)
        b = tl.load(y + columns + k[:, None], mask=(j < M)[None, :] & (k < D)[:, None], other=0.0)
        acc = multiply(a, b, acc, PRECISION)
    return acc


def step_of(scale: Tensor) -> int | None:
    """How kernels walk over scales: None where there is one for all columns, which then costs no registers."""
    return 1 if scale.dim() else None


@triton.jit
def scale_of(scale, step, j, M):
    """The factor of all columns, or [1, BN] of each."""
    if step is None:
        return tl.load(scale)
    else:
        return tl.load(scale + j, mask=j < M, other=0.0)[None, :]


@triton.jit
def pair_tile(rules, i, j, N, M, KINDS: tl.constexpr):
    """(positive, kept) of a tile: boolean, false outside the matrix."""
    inside = (i < N)[:, None] & (j < M)[None, :]
    same_place = inside & ((i + rules.diagonal)[:, None] == j[None, :])
    if KINDS.plain:
        return same_place, inside
    kept = inside
    if rules.x_present is not None:
        kept = kept & (tl.load(rules.x_present + i, mask=i < N, other=0) != 0)[:, None]
    if rules.y_present is not None:
        kept = kept & (tl.load(rules.y_present + j, mask=j < M, other=0) != 0)[None, :]
    if KINDS.without_self:
        kept = kept & ((i + rules.diagonal)[:, None] != j[None, :])
    if KINDS.without_same_view:
        of_row = tl.load(rules.x_views + i, mask=i < N, other=0)
        of_column = tl.load(rules.y_views + j, mask=j < M, other=0)
        kept = kept & (of_row[:, None] != of_column[None, :])
    positive = same_place & kept
    if not KINDS.by_diagonal:
        positive = positive & (i < 0)[:, None]
    if KINDS.by_ids or KINDS.without_same_id:
        of_row = tl.load(rules.x_ids + i, mask=i < N, other=0)
        of_column = tl.load(rules.y_ids + j, mask=j < M, other=0)
        same = of_row[:, None] == of_column[None, :]
        if KINDS.by_ids:
            positive = same & kept
        if KINDS.without_same_id:
            kept = kept & (positive | (same == 0))
    if KINDS.without_positives:
        kept = kept & (positive == 0)
    return positive, kept


@triton.jit
def weight_tile(rules, i, j, N, M):
    """[BM, BN] weights of the pairs in the denominators."""
    at = i.to(tl.int64)[:, None] * rules.weight_row + j.to(tl.int64)[None, :] * rules.weight_column
    return tl.load(rules.weights + at, mask=(i < N)[:, None] & (j < M)[None, :], other=0).to(tl.float32)


@triton.jit
def _accumulate_kernel(
    g, x, y, dx, dy, R, C, D, sg, sx, sy, sdx, sdy, row_tiles,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
    WANT_X: tl.constexpr, WANT_Y: tl.constexpr,
):  # fmt: skip
    """dx [R, D] += g [R, C] y [C, D] and dy [C, D] += g^T x [R, D] in one launch, accumulated in float32."""
    tile = tl.program_id(0)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    if tile < row_tiles:
        if WANT_X:
            m = tile * BM + tl.arange(0, BM)
            acc = tl.zeros((BM, BN), dtype=tl.float32)
            for start in range(0, C, BK):
                k = start + tl.arange(0, BK)
                a = tl.load(g + m[:, None] * sg + k[None, :], mask=(m < R)[:, None] & (k < C)[None, :], other=0.0)
                b = tl.load(
                    y + k.to(tl.int64)[:, None] * sy + n[None, :], mask=(k < C)[:, None] & (n < D)[None, :], other=0.0
                )
                acc = multiply(a, b, acc, PRECISION)
            out = dx + m.to(tl.int64)[:, None] * sdx + n[None, :]
            inside = (m < R)[:, None] & (n < D)[None, :]
            tl.store(out, tl.load(out, mask=inside, other=0.0) + acc, mask=inside)
    else:
        if WANT_Y:
            m = (tile - row_tiles) * BM + tl.arange(0, BM)
            acc = tl.zeros((BM, BN), dtype=tl.float32)
            for start in range(0, R, BK):
                k = start + tl.arange(0, BK)
                a = tl.load(g + k[None, :] * sg + m[:, None], mask=(m < C)[:, None] & (k < R)[None, :], other=0.0)
                b = tl.load(
                    x + k.to(tl.int64)[:, None] * sx + n[None, :], mask=(k < R)[:, None] & (n < D)[None, :], other=0.0
                )
                acc = multiply(a, b, acc, PRECISION)
            out = dy + m.to(tl.int64)[:, None] * sdy + n[None, :]
            inside = (m < C)[:, None] & (n < D)[None, :]
            tl.store(out, tl.load(out, mask=inside, other=0.0) + acc, mask=inside)


def accumulate(
    g: Tensor, x: Tensor, y: Tensor, dx: Tensor | None, dy: Tensor | None, rows: int, columns: int, sizes: Sizes
) -> None:
    """Adds a super-tile's part of both gradients: `g` [rows, columns] holds the gradient of its scores."""
    row_tiles, column_tiles = triton.cdiv(rows, sizes.BM), triton.cdiv(columns, sizes.BM)
    d = x.shape[1]
    _accumulate_kernel[(row_tiles + column_tiles, triton.cdiv(d, sizes.BN))](
        g, x, y, g if dx is None else dx, g if dy is None else dy, rows, columns, d, g.stride(0), x.stride(0),
        y.stride(0), 0 if dx is None else dx.stride(0), 0 if dy is None else dy.stride(0), row_tiles,
        PRECISION=precision_of(x.dtype), WANT_X=dx is not None, WANT_Y=dy is not None, **sizes.meta(),
    )  # fmt: skip


def super_tiles(n: int, m: int, sizes: Sizes):
    """The super-tiles of an n x m matrix: their gradients stay in the last cache between being written and read."""
    for c in range(0, m, sizes.super_tile):
        for r in range(0, n, sizes.super_tile):
            yield slice(r, min(r + sizes.super_tile, n)), slice(c, min(c + sizes.super_tile, m))
