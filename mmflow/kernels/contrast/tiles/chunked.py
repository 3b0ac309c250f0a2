"""Tiles in PyTorch: their sizes, buffers, dtypes, units, and the constant that is subtracted from their scores."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..pairs import Pairs

TILE = 1024
"""Rows and columns of a tile: 4 MiB of float32, which stays in a core's share of the last cache."""

BOUND = 150.0

_HEADROOM = 70.0

_LOG2E = 1 / math.log(2)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype in which sums of these are computed: float32, or float64 where one of them is."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def precise_dtype(device: torch.device, dtype: torch.dtype = torch.float32) -> torch.dtype:
    """The dtype in which sums over rows and columns are kept: float64 where the device has it."""
    return dtype if device.type == "mps" else torch.float64


def spans(size: int, tile: int) -> Iterator[slice]:
    for start in range(0, size, tile):
        yield slice(start, min(start + tile, size))


def unit_for(shift: float | None) -> float:
    """The factor on scores in a tile: shifted sums are powers of two, which CPUs and GPUs compute faster."""
    return 1.0 if shift is None else _LOG2E


def shift_for(bound: float) -> float | None:
    """The constant k for scores within [-bound, bound]; None where the range is too wide for one constant."""
    # a whole number in base 2, so that subtracting it from a score above it rounds nothing
    return math.floor(max(0.0, bound - _HEADROOM) * _LOG2E) / _LOG2E if bound <= BOUND else None


def diagonal(tile: Tensor, first: tuple[int, int], length: int) -> Tensor:
    """The view of `length` elements of a tile along its diagonal from row and column `first`."""
    row, column = first
    return tile[row : row + length, column : column + length].diagonal()


class Buffers:
    """Tiles that are allocated once: fresh memory of this size costs page faults at every use."""

    def __init__(self, dtype: torch.dtype, device: torch.device, n: int, m: int):
        self.size, self.dtype, self.device = min(n, TILE) * min(m, TILE), dtype, device
        self.made: dict[str, Tensor] = {}

    def get(self, name: str, n: int, m: int) -> Tensor:
        if name not in self.made:
            self.made[name] = torch.empty(self.size, dtype=self.dtype, device=self.device)
        return self.made[name][: n * m].view(n, m)


def largest_score(x: Tensor, y: Tensor, scale: Tensor) -> float:
    """A bound on |<x_i, y_j>| * scale_j by the norms."""
    return largest_norm(x) * largest_norm(y, scale)


def largest_norm(x: Tensor, scale: Tensor | None = None) -> float:
    """The largest norm of a row, times its scale where there is one."""
    if not x.numel():
        return 0.0
    dtype = compute_dtype(x)
    norms = torch.cat([torch.linalg.vector_norm(x[r], dim=1, dtype=dtype) for r in spans(x.shape[0], 4 * TILE)])
    return float((norms if scale is None else norms * scale.detach().abs()).amax())


def marks(pairs: Pairs, r: slice, c: slice, scores: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Positives as numbers, which multiply many times faster than booleans on a CPU, and the excluded."""
    if pairs.plain:
        return None, None
    positive, excluded = pairs.block(r, c, scores.device)
    return None if positive is None else positive.to(scores.dtype), excluded
