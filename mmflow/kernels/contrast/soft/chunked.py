"""The sums and bars of a teacher in streaming PyTorch; its targets then enter the tiles of the softmax core."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...dispatch import opaque
from ..softmax import chunked as core
from ..sums import Want
from ..sums.streams import Stream
from ..targets.chunked import Teacher
from ..tiles.chunked import spans

__all__ = ["AddSums", "Best", "Teacher", "add_best", "add_sums", "best_for", "core", "prepare", "teacher_streams"]

AddSums = Callable[[Teacher, tuple[Stream | None, Stream | None]], None]


@opaque
def prepare(teacher: Teacher, want: Want, top_k: int | None, add_sums: AddSums) -> None:
    """Sums and bars of a teacher whose block is the whole batch."""
    n, m = teacher.a.shape[0], teacher.b.shape[0]
    best = best_for((n, m), (n, m), want, top_k, teacher.dtype, teacher.a.device)
    add_best(teacher, best)
    teacher.least = [None if side is None else side.bars(teacher.rounding()) for side in best]
    streams = teacher_streams((n, m), (n, m), want, teacher.dtype, teacher.a.device)
    add_sums(teacher, streams)
    teacher.lse = [None if stream is None else stream.sums().lse for stream in streams]


def add_best(teacher: Teacher, best: "tuple[Best | None, Best | None]") -> None:
    """Adds the scores of all pairs to the highest of their rows and of their columns."""
    if best == (None, None):
        return
    for c in spans(teacher.b.shape[0], teacher.step):
        for r in spans(teacher.a.shape[0], teacher.step):
            scores = teacher.scores(r, c)
            for side, at, tile in zip(best, (r, c), (scores, scores.T), strict=True):
                if side is not None:
                    side.add(at, tile)


def add_sums(teacher: Teacher, streams: tuple[Stream | None, Stream | None]) -> None:
    """Adds the scores of all pairs, as far as bars let them, to the sums of their rows and of their columns."""
    for c in spans(teacher.b.shape[0], teacher.step):
        for r in spans(teacher.a.shape[0], teacher.step):
            scores = teacher.scores(r, c)
            for side, (stream, at) in enumerate(zip(streams, (r, c), strict=True)):
                if stream is not None:
                    stream.add_running(at, teacher.kept(side, r, c, scores), None)


class Best:
    """The k + 1 highest scores of each row, over a stream of tiles."""

    def __init__(self, values: Tensor):
        self.values = values

    def empty(self, rows: int) -> "Best":
        """As many of other rows, none met yet."""
        return Best(self.values.new_full((rows, self.values.shape[1]), -torch.inf))

    def add(self, at: slice, tile: Tensor) -> None:
        count = self.values.shape[1]
        highest = tile.topk(min(count, tile.shape[1]), dim=1).values
        self.values[at] = torch.cat([self.values[at], highest], 1).topk(count, dim=1).values

    def bars(self, rounding: Tensor) -> Tensor:
        """A bar below each row's k-th highest score, halfway to the next: rounding cannot move a score across it.

        Scores that differ from the k-th by less than `rounding` stay above the bar, as its ties do.
        """
        last, following = self.values[:, -2], self.values[:, -1]
        bar = torch.minimum((last + following) / 2, last - rounding)
        return torch.where(following == -torch.inf, following, bar)


def best_for(
    mine: tuple[int, int],
    whole: tuple[int, int],
    want: Want,
    top_k: int | None,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Best | None, Best | None]:
    """Of the rows and of the columns, `mine` of the `whole` batch; None where all of a side's scores are kept."""

    def side(wanted: bool, size: int, others: int) -> Best | None:
        if not wanted or top_k is None or top_k >= others:
            return None
        return Best(torch.full((size, top_k + 1), -torch.inf, dtype=dtype, device=device))

    return side(want.rows, mine[0], whole[1]), side(want.columns, mine[1], whole[0])


def teacher_streams(
    mine: tuple[int, int], whole: tuple[int, int], want: Want, dtype: torch.dtype, device: torch.device
) -> tuple[Stream | None, Stream | None]:
    """Empty sums of the teacher's rows and columns, `mine` of the `whole` batch."""
    bare = Want(want.rows, want.columns, target=False)
    return (
        Stream(mine[0], whole[1], 1, bare, None, dtype, device) if want.rows else None,
        Stream(mine[1], whole[0], 0, bare, None, dtype, device) if want.columns else None,
    )
