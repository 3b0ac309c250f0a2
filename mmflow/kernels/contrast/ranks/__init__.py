"""How ranks that share a batch meet each other's columns.

Every rank keeps its rows; columns come in blocks, one a rank, together with what is summed over them. Two ways, the
same results: a *ring* passes blocks and their sums on from rank to rank, so that no rank holds more than two blocks; a
*gather* brings all blocks to every rank at once and sends the sums home at the end, in fewer and larger messages. Both
add a block's sums in one order of ranks, so that a run repeats its bits.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...dispatch import opaque

if TYPE_CHECKING:
    import torch.distributed as dist

Mode = Literal["ring", "gather"]
Tensors = list[Tensor]
Visit = Callable[[int, Tensors, Tensors], Tensors]
"""(owner, its block, what was summed over its columns so far) -> the sums with this rank's rows added."""


def exchange_over(
    operation: str, group: "dist.ProcessGroup | None", mode: str, rows: int, columns: int, device: torch.device
) -> "Exchange | None":
    """How the ranks of `group` exchange columns, of which this one has `columns`; None for a batch of one process."""
    if mode not in ("ring", "gather"):
        raise ValueError(f"{operation}: exchange is {mode!r}; known are ring, gather")
    if group is None:
        return None
    return (Ring if mode == "ring" else Gather)(group, rows, columns, device)


class Exchange(ABC):
    """The ranks' rows and columns of the global batch, and the rounds in which all rows meet all columns."""

    def __init__(self, group: "dist.ProcessGroup", rows: int, columns: int, device: torch.device):
        import torch.distributed as dist

        self.group, self.device = group, device
        self.rank, self.ranks = dist.get_rank(group), dist.get_world_size(group)
        mine = torch.tensor([rows, columns], device=device)
        all_sizes = [torch.empty_like(mine) for _ in range(self.ranks)]
        dist.all_gather(all_sizes, mine, group=group)
        self.rows, self.columns = ([int(s[k]) for s in all_sizes] for k in (0, 1))

    @property
    def whole(self) -> tuple[int, int]:
        """Rows and columns of the global batch."""
        return sum(self.rows), sum(self.columns)

    @property
    def first_row(self) -> int:
        return sum(self.rows[: self.rank])

    def first_column(self, owner: int) -> int:
        return sum(self.columns[:owner])

    def largest(self, value: float) -> float:
        """The largest of the ranks' values."""
        import torch.distributed as dist

        t = torch.tensor(value, dtype=torch.float64 if self.device.type != "mps" else torch.float32, device=self.device)
        dist.all_reduce(t, dist.ReduceOp.MAX, group=self.group)
        return float(t)

    @opaque
    def sum(self, value: Tensor) -> Tensor:
        """The sum over ranks. Each rank's part gets the gradient of the whole: all differentiate the same loss."""
        return _Sum.apply(value, self.group)

    @abstractmethod
    def round(
        self, block: Tensors, empty: Callable[[int], Tensors], visit: Visit, absorb: Callable[[Tensors, Tensors], None]
    ) -> Tensors:
        """Lets this rank's rows meet every block; returns what all ranks summed over this rank's columns.

        Args:
            block: this rank's columns: tensors whose first axis is the columns.
            empty: sums over the columns of a rank before any row met them; columns come first here too.
            visit: adds this rank's rows.
            absorb: adds one rank's sums (second) to another's (first), in place.
        """

    def _owner(self, step: int) -> int:
        return (self.rank + step) % self.ranks


class Ring(Exchange):
    """Blocks travel from rank to rank, with their sums, and are home after as many steps as there are ranks."""

    def round(
        self, block: Tensors, empty: Callable[[int], Tensors], visit: Visit, absorb: Callable[[Tensors, Tensors], None]
    ) -> Tensors:
        sums = empty(self.rank)
        for step in range(self.ranks):
            following = self._owner(step + 1)
            arriving, works = self._pass_on(block, following)
            sums = visit(self._owner(step), block, sums)
            sums, more = self._pass_on(sums, following)
            for work in (*more, *works):
                work.wait()
            block = arriving
        return sums

    def _pass_on(self, tensors: Tensors, owner: int) -> tuple[Tensors, "list[dist.Work]"]:
        """Begins to send tensors to the previous rank and to receive those of `owner`."""
        import torch.distributed as dist

        if self.ranks == 1 or not tensors:
            return tensors, []
        arriving = [t.new_empty((self.columns[owner], *t.shape[1:])) for t in tensors]
        previous = dist.get_global_rank(self.group, (self.rank - 1) % self.ranks)
        following = dist.get_global_rank(self.group, (self.rank + 1) % self.ranks)
        moves = [dist.P2POp(dist.isend, t.contiguous(), previous, self.group) for t in tensors]
        moves += [dist.P2POp(dist.irecv, t, following, self.group) for t in arriving]
        return arriving, dist.batch_isend_irecv(moves)


class Gather(Exchange):
    """All blocks come to every rank at once; the sums over the columns go home at the end."""

    def round(
        self, block: Tensors, empty: Callable[[int], Tensors], visit: Visit, absorb: Callable[[Tensors, Tensors], None]
    ) -> Tensors:
        blocks = [self._all(t) for t in block]
        sums: dict[int, Tensors] = {}
        for step in range(self.ranks):
            owner = self._owner(step)
            sums[owner] = visit(owner, [parts[owner] for parts in blocks], empty(owner))
        mine = sums[self.rank]
        home = [self._home([sums[owner][k] for owner in range(self.ranks)]) for k in range(len(mine))]
        for step in range(1, self.ranks):
            # the order in which a ring's block meets the ranks
            absorb(mine, [parts[self._owner(-step)] for parts in home])
        return mine

    def _all(self, tensor: Tensor) -> Tensors:
        import torch.distributed as dist

        size = max(self.columns)
        padded = tensor.new_zeros((size, *tensor.shape[1:]))
        padded[: tensor.shape[0]] = tensor
        parts = [torch.empty_like(padded) for _ in range(self.ranks)]
        dist.all_gather(parts, padded, group=self.group)
        return [part[:count] for part, count in zip(parts, self.columns, strict=True)]

    def _home(self, parts: Tensors) -> Tensors:
        """Sends each rank its part; returns what the ranks sent here."""
        import torch.distributed as dist

        mine = self.columns[self.rank]
        arriving = parts[0].new_empty((self.ranks * mine, *parts[0].shape[1:]))
        dist.all_to_all_single(arriving, torch.cat(parts), [mine] * self.ranks, self.columns, group=self.group)
        return list(arriving.split(mine))


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor, group: "dist.ProcessGroup"):
        import torch.distributed as dist

        total = value.detach().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad, None
