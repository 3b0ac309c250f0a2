"""Scores of queries against candidates that are stored in few bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmflow.plugin import ComponentError, Encoding, Score

if TYPE_CHECKING:
    from torch import Tensor

CELLS = 1 << 22
"""Scores that are held at a time."""


class Codes(BaseModel):
    """How candidates are stored.

    `int8`: a code in 256 steps between the extremes of each number over the candidates; the score is the dot product
    with what the codes give back. `binary`: one bit a number, x > 0; candidates are ordered by the bits that they share
    with those of the query, and the best `rescore` ones again by the query's own numbers, the sum of q_j over the bits
    that are set (Yamada et al., 2021).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: Literal["int8", "binary"]
    rescore: int = Field(
        40, ge=0, le=1_000_000, description="candidates of a query that are ordered again; of `binary`"
    )


def coded_rows(score: Score, queries: Encoding, candidates: Encoding, codes: Codes) -> Iterator[tuple[int, Tensor]]:
    """Blocks of scores as `score_rows` gives them: (first query, [b, M])."""
    x, y = score.vectors(queries), score.vectors(candidates)
    if x is None or y is None:
        raise ComponentError(f"the score {score.use!r} has no vectors to store as codes", expected="cosine or dot")
    x, stored = x.float(), _stored(y.float(), codes)
    rows = max(1, CELLS // max(1, len(stored)))
    for start in range(0, len(x), rows):
        block = x[start : start + rows]
        yield start, block @ stored.T if codes.to == "int8" else _binary(block, stored, codes.rescore)


def _stored(y: Tensor, codes: Codes) -> Tensor:
    """Candidates [M, D] as their codes give them back; bits as 0 and 1."""
    from mmflow.kernels import binary_codes, binary_values, int8_codes, int8_ranges, int8_values

    if codes.to == "binary":
        return binary_values(binary_codes(y), y.shape[-1])
    start, step = int8_ranges(y)
    return int8_values(int8_codes(y, start, step), start, step)


def _binary(x: Tensor, stored: Tensor, rescore: int) -> Tensor:
    """Bits that a query shares with each candidate; those that are ordered again stand above all others."""

    bits = (x > 0).to(stored.dtype)
    shared = bits @ stored.T + (1 - bits) @ (1 - stored).T
    best = shared.topk(min(rescore, len(stored)), dim=1).indices
    if not best.shape[1]:
        return shared
    own = x @ stored.T
    above = own - own.amin() + x.shape[-1] + 1
    return shared.scatter(1, best, above.gather(1, best))
