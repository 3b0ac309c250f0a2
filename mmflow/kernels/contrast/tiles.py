"""Sums over the rows and columns of a score matrix that arrives tile by tile, and the gradient of one tile.

Two ways to keep a log-sum-exp over a stream. *Shifted*: one constant k is subtracted from every score, so that one
exponential serves the row and the column and partial sums simply add; right where |score| <= BOUND, which
normalized features at temperatures down to 1/150 meet. *Running*: each row and column carries its own maximum (Milakov
and Gimelshein, 2018); right for any score, at two exponentials a pair.

Tiles are float32, the sums of rows and columns float64: a loss near 0 is the difference of a log-sum-exp and a target
that may each be 1000, whose rounding in float32 would be larger than the loss. For the same reason positives on the
diagonal may stand apart (`Want.apart`): a loss near 0 is the logarithm of 1 plus what the others add.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

TILE = 1024
"""Rows and columns of a tile: 4 MiB of float32, which stays in a core's share of the last cache."""

BOUND = 150.0
_HEADROOM = 70.0
_LEAST = 1e-31
_LOG2E = 1 / math.log(2)


class Want(NamedTuple):
    """Which sums a loss needs, per direction.

    `apart`: positives lie on the diagonal, and their exponentials are left out of the log-sum-exp.
    """

    rows: bool
    columns: bool
    target: bool
    total: bool = False
    inside: bool = False
    apart: bool = False


class Sums(NamedTuple):
    """One direction's sums, one value per row (or column), in `precise_dtype`; None where not asked.

    Attributes:
        lse: log of the (weighted) sum of exponentials over the pairs that are not excluded (`apart`: not positive);
            -inf where there is none.
        target: sum of the scores of positives, or the score expected under soft targets.
        total: sum of the scores that are not excluded.
        inside: log of the sum of exponentials over positives; -inf where there is none.
        allowed: how many pairs are not excluded.
        positives: how many pairs are positive.
    """

    lse: Tensor
    target: Tensor | None
    total: Tensor | None
    inside: Tensor | None
    allowed: Tensor
    positives: Tensor

    def joined(self, want: Want) -> "Sums":
        """With the positives in the log-sum-exp, where they were summed apart."""
        if not want.apart or self.target is None:
            return self
        return self._replace(lse=torch.where(self.positives > 0, torch.logaddexp(self.lse, self.target), self.lse))


class Arriving(NamedTuple):
    """What comes back to one direction's sums: `Stream.norms` of the forward and the gradients of four of the sums."""

    norm: Tensor
    inside: Tensor | None
    grads: tuple[Tensor | None, ...]
    """Of lse, target, total and inside."""


def arriving_at(norm: Tensor | None, inside: Tensor | None, grads: Sequence[Tensor | None]) -> Arriving | None:
    """None where a direction was not asked for or nothing comes back to it."""
    return None if norm is None or all(g is None for g in grads) else Arriving(norm, inside, tuple(grads))


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """What sums of these are computed in: float32, or float64 where one of them is."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def precise_dtype(device: torch.device, dtype: torch.dtype = torch.float32) -> torch.dtype:
    """What sums over rows and columns are kept in: float64 where the device has it."""
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


class Stream:
    """One direction's running sums. `dim` is the tile's axis that is summed: 1 for rows, 0 for columns.

    Tiles hold scores times `unit_for(shift)`.
    """

    def __init__(self, size: int, other: int, dim: int, want: Want, shift: float | None, dtype: torch.dtype, device):
        precise = precise_dtype(device, dtype)

        def vector(fill: float = 0.0) -> Tensor:
            return torch.full((size,), fill, dtype=precise, device=device)

        self.dim, self.want, self.shift, self.other, self.unit = dim, want, shift, other, unit_for(shift)
        self.dtype = dtype
        self.sum, self.peak = vector(), vector(-torch.inf)
        self.target = vector() if want.target else None
        self.total = vector() if want.total else None
        self.inside_sum, self.inside_peak = (vector(), vector(-torch.inf)) if want.inside else (None, None)
        self.allowed, self.positives = vector(), vector()

    def count(self, at: slice, scores: Tensor, positive: Tensor | None, excluded: Tensor | None) -> None:
        """Adds what needs the scores themselves; call before they are overwritten. `positive` is boolean or 0 and 1."""
        self.allowed[at] += scores.shape[self.dim]
        if excluded is not None:
            self.allowed[at] -= excluded.sum(self.dim)
        if self.total is not None:
            listed = scores if excluded is None else scores.masked_fill(excluded, 0)
            self.total[at] += listed.sum(self.dim)
        if positive is not None:
            self.positives[at] += positive.sum(self.dim)
            if self.target is not None:
                self.target[at] += _only(scores, positive).sum(self.dim)
            if self.want.inside and self.shift is None:
                assert self.inside_sum is not None
                assert self.inside_peak is not None
                self._run(self.inside_sum, self.inside_peak, at, scores.masked_fill(positive == 0, -torch.inf), None)

    def count_diagonal(self, at: slice, scores: Tensor, first: tuple[int, int], length: int) -> None:
        """Adds the `length` positives that lie on a diagonal of the tile from `first`."""
        here = slice(at.start + first[1 - self.dim], at.start + first[1 - self.dim] + length)
        if not length:
            return
        self.positives[here] += 1
        if self.target is not None:
            self.target[here] += diagonal(scores, first, length)

    def add_shifted(self, at: slice, exponentials: Tensor) -> None:
        """Adds exp(score - k) of a tile, excluded pairs 0."""
        self.sum[at] += exponentials.sum(self.dim)

    def add_inside(self, at: slice, exponentials: Tensor) -> None:
        """Adds exp(score - k) of a tile where all but positives is 0."""
        assert self.inside_sum is not None
        self.inside_sum[at] += exponentials.sum(self.dim)

    def add_running(self, at: slice, scores: Tensor, weight: Tensor | None) -> None:
        """Adds a tile of scores, excluded pairs -inf."""
        self._run(self.sum, self.peak, at, scores, weight)

    def _run(self, total: Tensor, peak: Tensor, at: slice, scores: Tensor, weight: Tensor | None) -> None:
        if weight is not None:
            # as a part of the score, so that a pair of weight 0 cannot set the maximum
            scores = scores + weight.to(scores.dtype).log()
        highest = torch.maximum(peak[at], scores.amax(self.dim))
        base = torch.where(highest == -torch.inf, torch.zeros_like(highest), highest)
        e = torch.exp(scores - base.to(scores.dtype).unsqueeze(self.dim))
        total[at] = total[at] * torch.exp(peak[at] - base) + e.sum(self.dim)
        peak[at] = highest

    def add_sums(self, more: Sums) -> None:
        """Adds the sums of a block of pairs; its `lse` and `inside` are sums of exp(score - k) where shifted."""
        self.allowed += more.allowed
        self.positives += more.positives
        for mine, given in ((self.target, more.target), (self.total, more.total)):
            if mine is not None and given is not None:
                mine += given * self.unit
        for total, peak, given in ((self.sum, self.peak, more.lse), (self.inside_sum, self.inside_peak, more.inside)):
            if total is None or peak is None or given is None:
                continue
            if self.shift is None:
                _merge(total, peak, (given > -torch.inf).to(total.dtype), given)
            else:
                total += given

    def absorb(self, state: Tensor) -> None:
        """Adds what another rank summed for the same rows (columns): its `state`."""
        like = self.sum
        theirs = Stream(len(like), self.other, self.dim, self.want, self.shift, self.dtype, like.device)
        theirs.restore(state)
        sums = theirs.sums()
        self.add_sums(sums if self.shift is None else sums._replace(lse=theirs.sum, inside=theirs.inside_sum))

    def trusted(self) -> bool:
        """Whether no row's shifted sum came so near the smallest numbers that terms may have been lost."""
        least = 1e-280 if self.dtype == torch.float64 else _LEAST * max(1, self.other)
        known = self.sum
        if self.want.apart and self.target is not None and self.shift is not None:
            # what is lost of the others counts beside the positive only
            known = known + torch.where(self.positives > 0, torch.exp(self.target / self.unit - self.shift), 0.0)
        low = (known < least) & (self.allowed > self.positives * self.want.apart)
        if self.inside_sum is not None:
            low = low | ((self.inside_sum < least) & (self.positives > 0))
        return not bool(low.any())

    def sums(self) -> Sums:
        lse = self._log(self.sum, self.peak)
        inside = None
        if self.inside_sum is not None and self.inside_peak is not None:
            inside = self._log(self.inside_sum, self.inside_peak)
        target, total = (None if v is None else v / self.unit for v in (self.target, self.total))
        return Sums(lse, target, total, inside, self.allowed, self.positives)

    def state(self) -> Tensor:
        """All sums as one tensor [quantities, size], which `restore` takes back on another rank."""
        return torch.stack([v for v in self._quantities() if v is not None])

    def restore(self, state: Tensor) -> None:
        for mine, given in zip([v for v in self._quantities() if v is not None], state, strict=True):
            mine.copy_(given)

    def _quantities(self) -> list[Tensor | None]:
        return [
            self.sum, self.peak, self.target, self.total, self.inside_sum, self.inside_peak, self.allowed,
            self.positives,
        ]  # fmt: skip

    def norms(self) -> tuple[Tensor, Tensor | None]:
        """What `Slope` needs of the sums."""
        if self.shift is not None:
            return self.sum, self.inside_sum
        sums = self.sums()
        return sums.lse, sums.inside

    def _log(self, total: Tensor, peak: Tensor) -> Tensor:
        if self.shift is not None:
            return total.log().add_(self.shift)
        return total.log() + torch.where(total == 0, 0.0, peak)


def _only(scores: Tensor, positive: Tensor) -> Tensor:
    # a score of any function may be infinite where it is no positive; a product would make that a NaN
    return scores.masked_fill(~positive, 0) if positive.dtype == torch.bool else scores * positive


def diagonal(tile: Tensor, first: tuple[int, int], length: int) -> Tensor:
    """The view of `length` elements of a tile along its diagonal from row and column `first`."""
    row, column = first
    return tile[row : row + length, column : column + length].diagonal()


class Slope:
    """One direction's part in the gradient with respect to a tile: what normalizes it and what arrives for each sum.

    `norm` and `inside` of `arriving` are log-sum-exps, or, shifted, the sums themselves. A log-sum-exp of 1000 does not
    fit into the float32 of a tile: the tile subtracts its rounded value (`base`), and the factor makes up for the rest.
    """

    def __init__(self, dim: int, arriving: Arriving, shift: float | None, dtype: torch.dtype, apart: bool = False):
        self.dim, self.apart = dim, apart
        unit = unit_for(shift)
        g_lse, *linear, g_inside = arriving.grads
        g_lse = torch.zeros_like(arriving.norm) if g_lse is None else g_lse
        self.base, self.factor = normalizer(arriving.norm, g_lse, shift, dtype)
        self.inside_base, self.inside_factor = None, None
        if arriving.inside is not None and g_inside is not None:
            self.inside_base, self.inside_factor = normalizer(arriving.inside, g_inside, shift, dtype)
        self.g_target, self.g_total = (None if g is None else (g / unit).to(dtype) for g in linear)

    def of(self, vector: Tensor, at: slice) -> Tensor:
        return vector[at].unsqueeze(self.dim)

    def add_linear(
        self, g: Tensor, at: slice, positive: Tensor | None, excluded: Tensor | None, soft: Tensor | None
    ) -> None:
        """Adds to `g` the parts that are linear in the scores: targets and totals."""
        if self.g_target is not None:
            if soft is not None:
                g.addcmul_(soft, self.of(self.g_target, at).expand_as(soft))
            elif positive is not None:
                g.addcmul_(positive.to(g.dtype), self.of(self.g_target, at).expand_as(g))
        if self.g_total is not None:
            part = self.of(self.g_total, at)
            g.add_(part if excluded is None else part * ~excluded)

    def add_diagonal(self, g: Tensor, at: slice, first: tuple[int, int], length: int) -> None:
        """Adds the target's part for positives on the tile's diagonal from `first`."""
        if self.g_target is not None:
            start = at.start + first[1 - self.dim]
            diagonal(g, first, length).add_(self.g_target[start : start + length])

    def running(
        self, scores: Tensor, at: slice, positive: Tensor | None, excluded: Tensor | None, weight: Tensor | None
    ) -> Tensor:
        """The gradient of the log-sum-exps with respect to a tile of scores, from the scores and the sums alone."""
        assert self.base is not None
        weighted = scores if weight is None else scores + weight.to(scores.dtype).log()
        g = torch.exp(weighted - self.of(self.base, at))
        if excluded is not None:
            g = g.masked_fill(excluded, 0)
        g = g * self.of(self.factor, at)
        if self.inside_base is not None and self.inside_factor is not None and positive is not None:
            p = torch.exp(scores - self.of(self.inside_base, at))
            g = g + p.masked_fill(positive == 0, 0) * self.of(self.inside_factor, at)
        return g


def normalizer(
    norm: Tensor, gradient: Tensor | None, shift: float | None, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor]:
    """(base, factor) such that the softmax of a tile is exp(score - base) * factor, or exp(score - shift) * factor.

    The factor is multiplied with `gradient` where there is one.
    """
    if shift is not None:
        gradient = torch.ones_like(norm) if gradient is None else gradient
        return None, (torch.where(norm == 0, 0.0, gradient / norm) / unit_for(shift)).to(dtype)
    base = torch.where(norm == -torch.inf, torch.inf, norm).to(dtype)
    factor = torch.where(base.isinf(), 0.0, base.to(norm.dtype) - norm).exp()
    return base, (factor if gradient is None else gradient * factor).to(dtype)


def _merge(total: Tensor, peak: Tensor, more: Tensor, more_peak: Tensor) -> None:
    # tiles subtract it, in float32
    highest = torch.maximum(peak, more_peak).float().to(peak.dtype)
    base = torch.where(highest == -torch.inf, torch.zeros_like(highest), highest)
    total.mul_(torch.exp(peak - base)).add_(more * torch.exp(more_peak - base))
    peak.copy_(highest)
