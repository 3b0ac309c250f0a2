"""Nearest centers in Triton: one program per block of rows, the best center so far kept beside the tile of products."""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false
# pyright: reportIndexIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import interpreted


def nearest_center(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    index = torch.empty(len(x), dtype=torch.int64, device=x.device)
    distance = torch.empty(len(x), dtype=torch.float32, device=x.device)
    half = (centers * centers).sum(1) / 2
    block = (16, 32, 16) if interpreted() else (64, 128, 32)
    _nearest[(triton.cdiv(len(x), block[0]),)](
        x, centers, half, index, distance, len(x), len(centers), x.shape[1], *x.stride(), *centers.stride(),
        BN=block[0], BK=block[1], BD=block[2], PRECISION="ieee" if interpreted() else "tf32x3", num_warps=8,
    )  # fmt: skip
    return index, distance


@triton.jit
def _nearest(
    x, centers, half, index, distance, n, k, width, x_row, x_column, c_row, c_column,
    BN: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    i_in = i < n
    least = tl.full((BN,), float("inf"), tl.float32)
    least_at = tl.zeros((BN,), tl.int32)
    for start in range(0, k, BK):
        j = start + tl.arange(0, BK)
        j_in = j < k
        p = tl.zeros((BN, BK), tl.float32)
        for d0 in range(0, width, BD):
            d = d0 + tl.arange(0, BD)
            a = tl.load(
                x + i[:, None] * x_row + d[None, :] * x_column, mask=i_in[:, None] & (d < width)[None, :], other=0.0
            )
            b = tl.load(
                centers + j[None, :].to(tl.int64) * c_row + d[:, None] * c_column,
                mask=j_in[None, :] & (d < width)[:, None],
                other=0.0,
            )
            p = tl.dot(a, b, p, input_precision=PRECISION)
        # Half the squared distance, less what the row itself adds to it.
        score = tl.load(half + j, mask=j_in, other=float("inf"))[None, :] - p
        low = tl.min(score, 1)
        # The first of equal minima; a later tile must do better.
        at = tl.min(tl.where(score == low[:, None], j[None, :], k), 1)
        better = low < least
        least = tl.where(better, low, least)
        least_at = tl.where(better, at, least_at)
    # From the difference itself: the product form loses small distances to cancellation.
    total = tl.zeros((BN,), tl.float32)
    for d0 in range(0, width, BD):
        d = d0 + tl.arange(0, BD)
        keep = i_in[:, None] & (d < width)[None, :]
        a = tl.load(x + i[:, None] * x_row + d[None, :] * x_column, mask=keep, other=0.0)
        b = tl.load(centers + least_at[:, None].to(tl.int64) * c_row + d[None, :] * c_column, mask=keep, other=0.0)
        total += tl.sum((a - b) * (a - b), 1)
    tl.store(index + i, least_at.to(tl.int64), mask=i_in)
    tl.store(distance + i, total, mask=i_in)
