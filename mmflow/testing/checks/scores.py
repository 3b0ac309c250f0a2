"""The checks of a score: blocks and pairs agree, and it serves losses, miners and retrieval alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmflow.plugin import Encoding, Score, Tokens
from mmflow.testing.case import DIM, LENGTH
from mmflow.testing.compute import Settings, compute_on
from mmflow.testing.faults import Fault

ROWS, OTHERS = 5, 7
IDS = 8
"""Ids that are made up for a score of texts lie below."""


@dataclass(frozen=True)
class ScoreCase:
    """A score; its inputs are made from the outputs that it `needs`."""

    component: Score

    @property
    def label(self) -> str:
        return f"score/{self.component.use}"

    def function(self) -> Score:
        """The score, or its module with weights in float64."""
        build = getattr(self.component, "build", None)
        if build is None:
            return self.component
        torch.manual_seed(0)
        module: nn.Module = build()
        return module.double()  # type: ignore[return-value]

    def side(self, rows: int, seed: int) -> Encoding:
        draw = torch.Generator().manual_seed(seed)
        mask = torch.arange(LENGTH)[None] < (torch.arange(rows) % LENGTH + 1)[:, None]
        made: dict[str, Tensor | Tokens] = {
            name: torch.randn(rows, DIM, generator=draw, dtype=torch.float64) for name in self.component.needs
        }
        if "tokens" in made:
            made["tokens"] = Tokens(torch.randn(rows, LENGTH, DIM, generator=draw, dtype=torch.float64), mask)
        if "ids" in made:
            made["ids"] = Tokens(torch.randint(IDS, (rows, LENGTH), generator=draw) * mask, mask)
        return Encoding(made)


def check_pairs_are_the_diagonal(case: ScoreCase) -> None:
    """`pairs(a, b)` is the diagonal of `blocks(a, b)`; of two directions, the mean of their diagonals."""
    score, a, b = case.function(), case.side(ROWS, 0), case.side(ROWS, 1)
    blocks = score.blocks(a, b)
    diagonal = (
        torch.stack([each.diagonal() for each in blocks]).mean(0) if isinstance(blocks, tuple) else blocks.diagonal()
    )
    _close(case, score.pairs(a, b), diagonal, "`pairs` is not the diagonal of `blocks`")


def check_blocks_are_cut_anywhere(case: ScoreCase) -> None:
    """A block of some rows and columns is that part of the whole: memory stays bounded by computing parts."""
    score, a, b = case.function(), case.side(ROWS, 0), case.side(OTHERS, 1)
    whole, part = score.blocks(a, b), score.blocks(a.rows(slice(1, 3)), b.rows(slice(2, 6)))
    for index, (all_, some) in enumerate(zip(_both(whole), _both(part), strict=True)):
        cut = all_[1:3, 2:6] if index == 0 else all_[2:6, 1:3]
        _close(case, some, cut, "a block is not that part of the whole")


def check_directions(case: ScoreCase) -> None:
    """Swapped sides give the other direction, so that a loss and a retrieval in both directions mean the same."""
    score, a, b = case.function(), case.side(ROWS, 0), case.side(OTHERS, 1)
    forward, backward = _both(score.blocks(a, b)), _both(score.blocks(b, a))
    if len(forward) == 2:
        _close(case, backward[0], forward[1], "the second direction is not the first of the swapped sides")


def check_vectors(case: ScoreCase) -> None:
    """Where the score is a dot product, `vectors` of the two sides multiply to `blocks`."""
    score, a, b = case.function(), case.side(ROWS, 0), case.side(OTHERS, 1)
    left, right = score.vectors(a), score.vectors(b)
    if left is not None and right is not None:
        _close(case, left @ right.T, _both(score.blocks(a, b))[0], "`vectors` do not multiply to `blocks`")


def check_under_a_loss(case: ScoreCase) -> None:
    """A contrastive loss trains with it: equal over micro-batches, finite, and with a gradient for both sides."""
    from mmflow.plugin.registry import registry

    loss = registry().get("loss", "infonce").model_validate({"of": ["a", "b"], "score": case.component.declared()})
    a, b = case.side(ROWS, 0), case.side(ROWS, 1)
    whole = compute_on(loss, a=a, b=b)  # type: ignore[arg-type]
    parts = compute_on(loss, settings=Settings(micro_batch_size=2), a=a, b=b)  # type: ignore[arg-type]
    for name, gradient in whole.gradients.items():
        if not torch.isfinite(gradient).all():
            raise Fault(case, f"under infonce the gradient for `{name}` is infinite or NaN")
        _close(case, parts.gradients[name], gradient, f"under infonce micro-batches change the gradient for `{name}`")


CHECKS = (
    check_pairs_are_the_diagonal,
    check_blocks_are_cut_anywhere,
    check_directions,
    check_vectors,
    check_under_a_loss,
)


def _both(blocks: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    return blocks if isinstance(blocks, tuple) else (blocks,)


def _close(case: ScoreCase, found: Tensor, expected: Tensor, says: str) -> None:
    if found.shape != expected.shape:
        raise Fault(case, says, found=tuple(found.shape), expected=tuple(expected.shape))
    difference = float((found - expected).abs().max())
    if not difference <= 1e-9 * max(1.0, float(expected.abs().max())):
        raise Fault(case, says, found=f"a difference of {difference:.3g}")
