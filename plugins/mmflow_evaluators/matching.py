"""Which candidates answer a query: those of its own row, and those of equal content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mmflow.plugin import Encoding, Tokens

if TYPE_CHECKING:
    from torch import Tensor

Texts = Sequence[str | Sequence[str | None] | None]
"""A text a row, or a group of them."""


@dataclass(frozen=True)
class TextSide:
    """The texts behind an encoding as numbers, equal for equal texts; absent ones differ from all."""

    of_rows: Tensor
    """int64 [rows, texts a row]"""
    of_members: Tensor
    """int64 [present members], in the order of `ranking.fold`."""

    @property
    def sharing(self) -> int:
        """Rows one of whose texts another row has too."""
        rows = torch.arange(len(self.of_rows), device=self.of_rows.device)[:, None].expand_as(self.of_rows)
        pairs = torch.stack([self.of_rows.reshape(-1), rows.reshape(-1)]).unique(dim=1)
        codes, place, counts = pairs[0].unique(return_inverse=True, return_counts=True)
        del codes
        return len(pairs[1][counts[place] > 1].unique())


def text_side(texts: Texts | None, encoding: Encoding) -> TextSide | None:
    """The texts behind an encoding; None where there are none, or another number of them than of its members."""
    groups = len(encoding.axes) - 1
    if texts is None or groups > 1 or any(isinstance(text, str) for text in texts) != (groups == 0):
        return None
    first = next(iter(encoding.outputs.values()))
    tensor = first.values if isinstance(first, Tokens) else first
    size = tensor.shape[1] if groups else 1
    seen: dict[str, int] = {}
    rows = []
    for number, text in enumerate(texts):
        members = [text] if groups == 0 else list(text or ())
        if len(members) > size:
            return None
        codes = [-1 - number * size - at for at in range(size)]
        for at, member in enumerate(members):
            if isinstance(member, str):
                codes[at] = seen.setdefault(member, len(seen))
        rows.append(codes)
    of_rows = torch.tensor(rows, dtype=torch.int64, device=tensor.device)
    flat = of_rows.reshape(-1)
    return TextSide(of_rows, flat if encoding.present is None else flat[encoding.present.reshape(-1)])


def equal_texts(*sides: TextSide | None) -> str:
    """What the line of a metric says where texts repeat, which then are equal answers."""
    return " (equal texts)" if any(side is not None and side.sharing for side in sides) else ""


def same_content(
    own: Tensor, other: Tensor, columns: Sequence[Tensor], queries: TextSide | None, candidates: TextSide | None
) -> Callable[[int, int], Tensor]:
    """`right` for `ranking.rank`: candidates of the query's own data row, with an equal value in one of `columns`, or
    of equal texts: a candidate that is a text of the query's row, or whose row has the text that the query is."""

    def right(start: int, count: int) -> Tensor:
        rows = own[start : start + count]
        good = rows[:, None] == other[None]
        for column in columns:
            good |= column[rows][:, None] == column[other][None]
        if queries is not None:
            asked = queries.of_members[start : start + count, None]
            for member in queries.of_rows[other].T:
                good |= asked == member[None]
        if candidates is not None:
            for member in candidates.of_rows[rows].T:
                good |= member[:, None] == candidates.of_members[None]
        return good

    return right
