"""What the Triton kernels of the contrastive core share: a tile of scores, the rules over its pairs, the products.

Kernels are launched on static grids, every sum has one writer and one order, and nothing is read back to the host, so
that a call gives the same bits every time and can be captured in a CUDA graph.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import interpreted
from .pairs import Pairs

LOG2E = 1.4426950408889634
SUPER = 4096


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


class Rules:
    """The pointers and switches by which kernels read `Pairs`."""

    def __init__(self, pairs: Pairs, filler: Tensor):
        def integers(ids: Tensor | None) -> Tensor:
            return filler if ids is None else ids.to(device=filler.device, dtype=torch.int64).contiguous()

        def flags(present: Tensor | None) -> Tensor:
            return filler if present is None else present.to(device=filler.device, dtype=torch.int8).contiguous()

        self.pointers = (
            integers(pairs.x_ids),
            integers(pairs.y_ids),
            integers(pairs.x_views),
            integers(pairs.y_views),
            flags(pairs.x_present),
            flags(pairs.y_present),
        )
        self.diagonal = pairs.first_row - pairs.first_column
        self.switches = {
            "PLAIN": pairs.plain,
            "DIAGONAL": pairs.positives == "diagonal",
            "IDS": pairs.positives == "ids",
            "X_PRESENT": pairs.x_present is not None,
            "Y_PRESENT": pairs.y_present is not None,
            "NO_SELF": pairs.without_self,
            "NO_SAME_ID": pairs.without_same_id,
            "NO_SAME_VIEW": pairs.without_same_view,
            "NO_POSITIVES": pairs.without_positives,
        }


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


@triton.jit
def pair_tile(
    i, j, N, M, diagonal, x_ids, y_ids, x_views, y_views, x_present, y_present,
    PLAIN: tl.constexpr, DIAGONAL: tl.constexpr, IDS: tl.constexpr, X_PRESENT: tl.constexpr, Y_PRESENT: tl.constexpr,
    NO_SELF: tl.constexpr, NO_SAME_ID: tl.constexpr, NO_SAME_VIEW: tl.constexpr, NO_POSITIVES: tl.constexpr,
):  # fmt: skip
    """(positive, kept) of a tile: boolean, false outside the matrix."""
    inside = (i < N)[:, None] & (j < M)[None, :]
    same_place = inside & ((i + diagonal)[:, None] == j[None, :])
    if PLAIN:
        return same_place, inside
    kept = inside
    if X_PRESENT:
        kept = kept & (tl.load(x_present + i, mask=i < N, other=0) != 0)[:, None]
    if Y_PRESENT:
        kept = kept & (tl.load(y_present + j, mask=j < M, other=0) != 0)[None, :]
    if NO_SELF:
        kept = kept & ((i + diagonal)[:, None] != j[None, :])
    if NO_SAME_VIEW:
        of_row = tl.load(x_views + i, mask=i < N, other=0)
        of_column = tl.load(y_views + j, mask=j < M, other=0)
        kept = kept & (of_row[:, None] != of_column[None, :])
    positive = same_place & kept
    if IDS or NO_SAME_ID:
        of_row = tl.load(x_ids + i, mask=i < N, other=0)
        of_column = tl.load(y_ids + j, mask=j < M, other=0)
        same = of_row[:, None] == of_column[None, :]
        if IDS:
            positive = same & kept
        if NO_SAME_ID:
            kept = kept & (positive | (same == 0))
    if not (IDS or DIAGONAL):
        positive = positive & (i < 0)[:, None]
    if NO_POSITIVES:
        kept = kept & (positive == 0)
    return positive, kept


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
