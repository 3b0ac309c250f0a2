"""Gram volume in Triton: the projections of a tile stay in registers, forward and backward.

The forward writes volumes only. The backward forms the projections again, turns them into their gradients in the same
registers and writes those for a bounded tile, which two plain products then multiply with the basis and the anchors.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false

from functools import partial
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import interpreted
from ..tiles import Tile, contrast, score_matrices
from .chunked import Volumes

_TILE_BYTES = 64 << 20


def gram_volume(x: Tensor, basis: Tensor, squared: Tensor, eps: float) -> Tensor:
    return -score_matrices(partial(FusedVolumes, eps), x, basis, squared)[0]


def gram_contrast(
    x: Tensor,
    basis: Tensor,
    squared: Tensor,
    eps: float,
    temperature: Tensor,
    label_smoothing: float,
    present: Tensor | None,
) -> tuple[Tensor, Tensor]:
    return contrast(partial(FusedVolumes, eps), temperature, present, present, label_smoothing, x, basis, squared)


class FusedVolumes(Volumes):
    """Negative volumes by kernel; a tile has no state."""

    def __init__(self, eps: float, *tensors: Any) -> None:
        super().__init__(eps, *tensors)
        side = max(1, int((_TILE_BYTES / self.x.element_size() / self.others) ** 0.5))
        self.row_step, self.column_step = min(self.rows, side), min(self.columns, side)
        self.x, self.basis = self.x.contiguous(), self.basis.contiguous()

    def tile(self, r: slice, c: slice) -> Tile:
        volume = self.x.new_empty(r.stop - r.start, c.stop - c.start)
        self._launch(r, c, volume, volume, backward=False)
        self.refine(volume, r, c)
        return Tile(volume, volume)

    def projection_slopes(self, r: slice, c: slice, tile: Tile, d_rest: Tensor) -> Tensor:
        out = self.x.new_empty(r.stop - r.start, self.others, c.stop - c.start)
        self._launch(r, c, out, d_rest.contiguous(), backward=True)
        return out

    def _launch(self, r: slice, c: slice, out: Tensor, d_rest: Tensor, *, backward: bool) -> None:
        n, m = r.stop - r.start, c.stop - c.start
        block = (16, 32, 16) if interpreted() else (64, 64, 32)
        grid = (triton.cdiv(n, block[0]), triton.cdiv(m, block[1]))
        _volumes[grid](
            self.x[r], self.basis[:, c], self.norms[r], self.squared[c].contiguous(), d_rest, out,
            n, m, self.x.shape[1], self.columns * self.x.shape[1], self.eps,
            OTHERS=self.others, BACKWARD=backward, BN=block[0], BM=block[1], BD=block[2],
            PRECISION="ieee" if interpreted() else "tf32x3",
        )  # fmt: skip


@triton.jit
def _volumes(
    x, basis, norms, squared, d_rest, out, n, m, width, other_stride, eps,
    OTHERS: tl.constexpr, BACKWARD: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    j = tl.program_id(1).to(tl.int64) * BM + tl.arange(0, BM)
    i_in, j_in = i < n, j < m
    inside = i_in[:, None] & j_in
    at = i[:, None] * m + j
    rest = tl.load(norms + i, mask=i_in, other=0.0)[:, None] + tl.zeros((BN, BM), tl.float32)
    slope = tl.load(d_rest + at, mask=inside, other=0.0) if BACKWARD else rest
    for other in range(OTHERS):
        p = tl.zeros((BN, BM), tl.float32)
        start = j * width + (tl.program_id(0).to(tl.int64) * 0 + other) * other_stride
        for d0 in range(0, width, BD):
            d = d0 + tl.arange(0, BD)
            a = tl.load(x + i[:, None] * width + d, mask=i_in[:, None] & (d < width), other=0.0)
            b = tl.load(basis + start[None, :] + d[:, None], mask=j_in & (d < width)[:, None], other=0.0)
            p = tl.dot(a, b, p, input_precision=PRECISION)
        if BACKWARD:
            tl.store(out + (i[:, None] * OTHERS + other) * m + j, -2.0 * p * slope, mask=inside)
        else:
            rest -= p * p
    if not BACKWARD:
        det = rest * tl.load(squared + j, mask=j_in, other=0.0)
        tl.store(out + at, -tl.sqrt(tl.maximum(det, eps)), mask=inside)
