"""Blocks of columns that travel in a round, and the sums and gradients that are added up on their way."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..pairs import Pairs
from ..sums import Want
from ..sums.streams import Stream
from ..targets.chunked import Teacher
from ..tiles.chunked import compute_dtype
from . import Exchange, Tensors

_COLUMN_RULES = ("y_ids", "y_views", "y_present")


class Block:
    """The part of a batch that travels: features, scales, what the rules know of the columns, the teacher's columns."""

    def __init__(self, exchange: Exchange, y: Tensor, scale: Tensor, pairs: Pairs, teacher: Teacher | None = None):
        self.exchange, self.scale, self.pairs, self.teacher = exchange, scale, pairs, teacher
        given: dict[str, Tensor | None] = {"y": y, "scale": scale if scale.dim() else None}
        given |= {name: getattr(pairs, name) for name in _COLUMN_RULES}
        if teacher is not None:
            given |= {
                "b": teacher.b, "b_scale": teacher.scale if teacher.scale.dim() else None, "b_lse": teacher.lse[1],
                "b_least": teacher.least[1],
            }  # fmt: skip
        self.tensors: Tensors = []
        self.fields: list[str] = []
        for name, value in given.items():
            if value is not None:
                self.fields.append(name)
                self.tensors.append(value.to(torch.uint8) if value.dtype == torch.bool else value)

    def unpack(self, tensors: Tensors, owner: int) -> tuple[Tensor, Tensor, Pairs, Teacher | None]:
        """(y, scale, rules, teacher) of the block that now lies here."""
        given: dict[str, Any] = dict(zip(self.fields, tensors, strict=True))
        exchange, pairs = self.exchange, self.pairs
        first, count = exchange.first_column(owner), exchange.columns[owner]
        rules: dict[str, Any] = {name: given[name] for name in _COLUMN_RULES if name in given}
        if "y_present" in rules:
            rules["y_present"] = rules["y_present"].bool()
        if isinstance(pairs.weights, Tensor):
            rules["weights"] = pairs.weights[:, first : first + count]
        here = replace(pairs, columns=count, first_row=exchange.first_row, first_column=first, **rules)
        teacher = None
        if self.teacher is not None:
            mine = self.teacher
            teacher = type(mine)(mine.a, given["b"], given.get("b_scale", mine.scale), here, mine.hard)
            teacher.lse = [mine.lse[0], given.get("b_lse")]
            teacher.least = [mine.least[0], given.get("b_least")]
        return given["y"], given.get("scale", self.scale), here, teacher


class ColumnSums:
    """The sums over the columns of a block, which travel with it as one tensor [columns, quantities]."""

    def __init__(self, exchange: Exchange, rows: int, want: Want, shift: float | None, dtype: torch.dtype):
        self.exchange, self.rows, self.want, self.shift, self.dtype = exchange, rows, want, shift, dtype

    def stream(self, owner: int, state: Tensors | None = None) -> Stream | None:
        if not self.want.columns:
            return None
        count = self.exchange.columns[owner]
        stream = Stream(count, self.rows, 0, self.want, self.shift, self.dtype, self.exchange.device)
        if state is not None:
            stream.restore(state[0].T)
        return stream

    def state(self, stream: Stream | None) -> Tensors:
        return [] if stream is None else [stream.state().T.contiguous()]

    def empty(self, owner: int) -> Tensors:
        return self.state(self.stream(owner))

    def absorb(self, mine: Tensors, theirs: Tensors) -> None:
        stream = self.stream(self.exchange.rank, mine)
        if stream is not None:
            stream.absorb(theirs[0].T)
            mine[:] = self.state(stream)


class Gradients:
    """Gradients added up over a round: those of this rank's rows here, those of the columns in what travels."""

    def __init__(self, exchange: Exchange, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor | None = None):
        self.exchange, self.like = exchange, (x, y, scale, bias)
        self.dtype = compute_dtype(x, y, scale)
        self.dx = torch.zeros(x.shape, dtype=self.dtype, device=x.device)
        self.dscale = torch.zeros((), dtype=torch.float64, device=x.device)
        self.dbias = torch.zeros((), dtype=torch.float64, device=x.device)

    def empty(self, owner: int) -> Tensors:
        _, y, scale, _ = self.like
        count = self.exchange.columns[owner]
        dy = torch.zeros((count, y.shape[1]), dtype=self.dtype, device=y.device)
        return [dy, torch.zeros(count, dtype=torch.float64, device=y.device)] if scale.dim() else [dy]

    def add(self, sums: Tensors, dx: Tensor, dy: Tensor, dscale: Tensor, dbias: Tensor | None = None) -> Tensors:
        self.dx += dx
        sums[0] += dy
        (sums[1] if len(sums) > 1 else self.dscale).add_(dscale)
        if dbias is not None:
            self.dbias += dbias
        return sums

    def found(self, home: Tensors) -> Tensors:
        """Of x, y, scale and, where there is one, bias, in their dtypes."""
        found = (self.dx, home[0], home[1] if len(home) > 1 else self.dscale, self.dbias)
        return [g.to(t.dtype) for g, t in zip(found, self.like, strict=True) if t is not None]


def add_all(mine: Tensors, theirs: Tensors) -> None:
    for a, b in zip(mine, theirs, strict=True):
        a += b


def needed(found: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
    return [g if need else None for g, need in zip(found, needs, strict=False)]
