"""Exact search in Triton: tiles of scores stay in registers, and so do the best k of each query.

One program takes a block of queries through one stretch of the gallery, in ascending order. A tile gives up its maxima
one after the other for as long as some query of the block has a score above the least it holds, which after the first
tiles is seldom. The stretches' lists are merged by a stable sort; nothing depends on the order of programs.
"""

# Triton gives `range` and scalars of kernels types of its own
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportAttributeAccessIssue=false, reportPossiblyUnboundVariable=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import interpreted

_QUERIES = 65536
_PROGRAMS = 1024
_EMPTY = tl.constexpr(-(1 << 31))


def top_k(
    queries: Tensor,
    gallery: Tensor,
    k: int,
    dtype: torch.dtype,
    exclude: Tensor | None,
    query_ids: Tensor | None,
    gallery_ids: Tensor | None,
) -> tuple[Tensor, Tensor]:
    q = len(queries)
    values = torch.empty(q, k, dtype=dtype, device=queries.device)
    indices = torch.empty(q, k, dtype=torch.int64, device=queries.device)
    for a in range(0, q, _QUERIES):
        rows = slice(a, min(a + _QUERIES, q))
        values[rows], indices[rows] = _block(
            queries[rows],
            gallery,
            k,
            None if exclude is None else exclude[rows].contiguous(),
            None if query_ids is None else query_ids[rows].contiguous(),
            None if gallery_ids is None else gallery_ids.contiguous(),
        )
    return values, indices


def _block(
    queries: Tensor,
    gallery: Tensor,
    k: int,
    exclude: Tensor | None,
    query_ids: Tensor | None,
    gallery_ids: Tensor | None,
) -> tuple[Tensor, Tensor]:
    q, g = len(queries), len(gallery)
    block_q, block_g, block_d = (16, 64, 32) if interpreted() else (64, 128, 32)
    tiles, blocks = triton.cdiv(g, block_g), triton.cdiv(q, block_q)
    stretch = triton.cdiv(tiles, max(1, min(tiles, (4 if interpreted() else _PROGRAMS) // blocks)))
    stretches = triton.cdiv(tiles, stretch)
    values = torch.empty(q, stretches, k, dtype=torch.float32, device=queries.device)
    places = torch.empty(q, stretches, k, dtype=torch.int32, device=queries.device)
    _best[(blocks, stretches)](
        queries, gallery, exclude, query_ids, gallery_ids, values, places,
        q, g, queries.shape[1], *queries.stride(), *gallery.stride(), k, stretch,
        0 if exclude is None else exclude.shape[1],
        BY_IDS=query_ids is not None, BY_PLACE=exclude is not None,
        # Products of halves are exact in the float32 they are added in.
        WIDEN=interpreted() or queries.dtype != gallery.dtype,
        BQ=block_q, BG=block_g, BD=block_d, BK=max(16, triton.next_power_of_2(k)),
        PRECISION="ieee" if interpreted() else "tf32x3", num_warps=8,
    )  # fmt: skip
    places, order = places.flatten(1).sort(dim=1)
    found, best = values.flatten(1).gather(1, order).sort(dim=1, descending=True, stable=True)
    return found[:, :k], places.gather(1, best[:, :k]).long()


@triton.jit
def _best(
    queries, gallery, exclude, query_ids, gallery_ids, out_values, out_places,
    q_count, g_count, width, q_row, q_column, g_row, g_column, k, stretch, excluded,
    BY_IDS: tl.constexpr, BY_PLACE: tl.constexpr, WIDEN: tl.constexpr, PRECISION: tl.constexpr,
    BQ: tl.constexpr, BG: tl.constexpr, BD: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    q = tl.program_id(0).to(tl.int64) * BQ + tl.arange(0, BQ)
    q_in = q < q_count
    column, slot = tl.arange(0, BG), tl.arange(0, BK)
    # A slot beyond k holds what nothing exceeds; empty slots have places of their own, to be filled one at a time.
    values = tl.zeros((BQ, BK), tl.float32) + tl.where(slot < k, float("-inf"), float("inf"))[None, :]
    places = tl.zeros((BQ, BK), tl.int32) - 1 - slot[None, :]
    if BY_IDS:
        own = tl.load(query_ids + q, mask=q_in, other=0)
    first = tl.program_id(1) * stretch
    for tile in range(first, tl.minimum(first + stretch, tl.cdiv(g_count, BG))):
        start = tile * BG
        g = start + column
        g_in = g < g_count
        s = tl.zeros((BQ, BG), tl.float32)
        for d0 in range(0, width, BD):
            d = d0 + tl.arange(0, BD)
            a = tl.load(
                queries + q[:, None] * q_row + d[None, :] * q_column,
                mask=q_in[:, None] & (d < width)[None, :],
                other=0.0,
            )
            b = tl.load(
                gallery + g[None, :].to(tl.int64) * g_row + d[:, None] * g_column,
                mask=g_in[None, :] & (d < width)[:, None],
                other=0.0,
            )
            if WIDEN:
                a, b = a.to(tl.float32), b.to(tl.float32)
            s = tl.dot(a, b, s, input_precision=PRECISION)
        # NaN exceeds nothing; it must be found.
        s = tl.where(s == s, s, float("inf"))
        s = tl.where(q_in[:, None] & g_in[None, :], s, float("-inf"))
        if BY_IDS:
            theirs = tl.load(gallery_ids + g, mask=g_in, other=0)
            s = tl.where(own[:, None] == theirs[None, :], float("-inf"), s)
        if BY_PLACE:
            for e in range(excluded):
                struck = tl.load(exclude + q * excluded + e, mask=q_in, other=-1) - start
                if tl.max(((struck >= 0) & (struck < BG)).to(tl.int32), 0) > 0:
                    s = tl.where(struck[:, None] == column[None, :], float("-inf"), s)
        least, top = tl.min(values, 1), tl.max(s, 1)
        while tl.max((top > least).to(tl.int32), 0) > 0:
            # The first of equal maxima enters, the last of the equally bad leaves.
            at = tl.min(tl.where(s == top[:, None], column[None, :], BG), 1)
            worst = values == least[:, None]
            last = tl.max(tl.where(worst, places, _EMPTY), 1)
            leaves = (top > least)[:, None] & worst & (places == last[:, None])
            values = tl.where(leaves, top[:, None], values)
            places = tl.where(leaves, (start + at)[:, None], places)
            s = tl.where(column[None, :] == at[:, None], float("-inf"), s)
            least, top = tl.min(values, 1), tl.max(s, 1)
    to = (q * tl.num_programs(1) + tl.program_id(1))[:, None] * k + slot[None, :]
    keep = q_in[:, None] & (slot < k)[None, :]
    tl.store(out_values + to, values, mask=keep)
    tl.store(out_places + to, places, mask=keep)
