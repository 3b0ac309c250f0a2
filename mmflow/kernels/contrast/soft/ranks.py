"""The sums and bars of a teacher over a batch that is split over ranks."""

from torch import Tensor

from ...dispatch import opaque
from ..ranks import Exchange, Tensors
from ..ranks.rounds import Block, ColumnSums
from ..sums import Want
from ..targets.chunked import Teacher
from .chunked import AddSums, Best, add_best, best_for, teacher_streams


@opaque
def prepare(teacher: Teacher, want: Want, top_k: int | None, exchange: Exchange, add_sums: AddSums) -> None:
    """As `chunked.prepare` over the global batch."""
    mine, device = (teacher.a.shape[0], teacher.b.shape[0]), teacher.a.device
    best = best_for(mine, exchange.whole, want, top_k, teacher.dtype, device)
    if best != (None, None):
        teacher.least = _bars(teacher, best, exchange)
    rows, _ = teacher_streams(mine, exchange.whole, want, teacher.dtype, device)
    # as a block's own teacher, so that its bars travel
    block = Block(exchange, teacher.b, teacher.scale, teacher.pairs, teacher)
    bare = Want(want.rows, want.columns, target=False)
    columns = ColumnSums(exchange, exchange.whole[0], bare, None, teacher.dtype)

    def visit(owner: int, tensors: Tensors, state: Tensors) -> Tensors:
        here, stream = block.unpack(tensors, owner)[3], columns.stream(owner, state)
        assert here is not None
        add_sums(here, (rows, stream))
        return columns.state(stream)

    home = exchange.round(block.tensors, columns.empty, visit, columns.absorb)
    sides = (rows, columns.stream(exchange.rank, home))
    teacher.lse = [None if stream is None else stream.sums().lse for stream in sides]


def _bars(teacher: Teacher, best: tuple[Best | None, Best | None], exchange: Exchange) -> list[Tensor | None]:
    rows, columns = best
    block = Block(exchange, teacher.b, teacher.scale, teacher.pairs, teacher)

    def empty(owner: int) -> Tensors:
        return [] if columns is None else [columns.empty(exchange.columns[owner]).values]

    def of(state: Tensors) -> Best | None:
        return Best(state[0]) if state else None

    def visit(owner: int, tensors: Tensors, state: Tensors) -> Tensors:
        here = block.unpack(tensors, owner)[3]
        assert here is not None
        add_best(here, (rows, of(state)))
        return state

    def absorb(mine: Tensors, theirs: Tensors) -> None:
        if mine:
            Best(mine[0]).add(slice(None), theirs[0])

    found = of(exchange.round(block.tensors, empty, visit, absorb))
    return [None if side is None else side.bars(teacher.rounding()) for side in (rows, found)]
