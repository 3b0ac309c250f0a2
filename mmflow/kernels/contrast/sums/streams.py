"""Sums over the rows and columns of a score matrix that arrives tile by tile, and the gradient of one tile.

Two ways to keep a log-sum-exp over a stream. *Shifted*: one constant k is subtracted from every score, so that one
exponential serves the row and the column and partial sums simply add; right where |score| <= BOUND, which
normalized features at temperatures down to 1/150 meet. *Running*: each row and column carries its own maximum (Milakov
and Gimelshein, 2018); right for any score, at two exponentials a pair.

Tiles are float32, the sums of rows and columns float64: a loss near 0 is the difference of a log-sum-exp and a target
that may each be 1000, whose rounding in float32 would be larger than the loss. For the same reason positives on the
diagonal may stand apart (`Want.apart`): a loss near 0 is the logarithm of 1 plus what the others add.
"""

import torch
from torch import Tensor

from ..tiles.chunked import compute_dtype, diagonal, precise_dtype, unit_for
from . import Sums, Want

_LEAST = 1e-31


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
            # the lost terms of the others count beside the positive only
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
        """The numbers that `Slope` needs of the sums."""
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


def _merge(total: Tensor, peak: Tensor, more: Tensor, more_peak: Tensor) -> None:
    # tiles subtract it, in float32
    highest = torch.maximum(peak, more_peak).float().to(peak.dtype)
    base = torch.where(highest == -torch.inf, torch.zeros_like(highest), highest)
    total.mul_(torch.exp(peak - base)).add_(more * torch.exp(more_peak - base))
    peak.copy_(highest)


def streams_for(
    x: Tensor, y: Tensor, scale: Tensor, want: Want, shift: float | None
) -> tuple[Stream | None, Stream | None]:
    """Empty sums of the rows of x and of the columns of y."""
    dtype, n, m = compute_dtype(x, y, scale), x.shape[0], y.shape[0]
    return (
        Stream(n, m, 1, want, shift, dtype, x.device) if want.rows else None,
        Stream(m, n, 0, want, shift, dtype, x.device) if want.columns else None,
    )
