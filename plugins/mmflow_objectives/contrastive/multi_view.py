"""Contrast of more than two views at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Bounds, Loss, Pooled, Refs, Value, default

if TYPE_CHECKING:
    from torch import Tensor


Temperature = Annotated[Value, Bounds(gt=0)]


class MultiView(Loss, name="multi_view"):
    """Contrast of V views of N rows at once, [N] (V at least 2).

    Takes one or several inputs, each [N, D] or with a group axis [N, G, D]: all vectors of a row are its views. With
    the score s of two vectors over the temperature, i a row, a and b two of its views, and j other rows:

        geometric    mean over a and b of  -log l,  l = exp s(ia, ib) / (exp s(ia, ib) + sum_{j, g} exp s(ia, jg))
        arithmetic   mean over a of  -log mean_b l   (both: Shidani et al., 2024)
        joint        log of the sum over all other vectors of all views of i, less log sum_{a != b} exp s(ia, ib)
        decoupled    sum_a log sum_j exp s(ia, ja) - log sum_{a < b} exp s(ia, ib)   (both: Koromilas et al., 2025)
        pairwise     mean over pairs of views of the loss of SimCLR on these two alone (Chen et al., 2020)
        rest         mean over a of the same loss on a and the mean of the other views

    All but `pairwise` and `rest` cost one pass over the scores, in memory that grows with N V.
    """

    axes: ClassVar[tuple[str, ...]] = ("*",)
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector", "logits")}
    example: ClassVar[str] = "{use: multi_view, of: [one, two, three], form: geometric, temperature: 0.1}"

    of: Refs[Pooled] = ()
    form: Literal["geometric", "arithmetic", "joint", "decoupled", "pairwise", "rest"] = Field(
        "geometric", description="how the views of a row are joined"
    )
    temperature: Temperature = default(0.1, description="divisor of the scores")
    normalize: bool = Field(True, description="score by cosine, otherwise by dot product")

    def in_batch_negatives(self) -> bool:
        return True

    def compute(self, *views: Tensor, temperature: float | Tensor) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        from mmflow.plugin import ComponentError

        parts = [view.flatten(1, -2) if view.ndim > 2 else view.unsqueeze(1) for view in views]
        vectors = torch.cat(parts, dim=1)
        if vectors.element_size() < 4:
            vectors = vectors.float()
        if self.normalize:
            vectors = normalize(vectors, dim=-1)
        if vectors.shape[1] < 2:
            raise ComponentError("multi_view compares views of a row", found="one vector a row",
                                 hint="name two inputs or more, or a view with copies")  # fmt: skip
        if self.form == "pairwise":
            return _pairwise(vectors, temperature)
        if self.form == "rest":
            return _rest(vectors, temperature)
        own = torch.einsum("nad,nbd->nab", vectors, vectors) / temperature
        if self.form == "joint":
            return _joint(vectors, own, temperature)
        if self.form == "decoupled":
            return _decoupled(vectors, own, temperature)
        return _one_against_rest(vectors, own, temperature, self.form == "arithmetic")


def _one_against_rest(vectors: Tensor, own: Tensor, temperature: float | Tensor, arithmetic: bool) -> Tensor:
    import math

    import torch

    from mmflow.kernels import row_logsumexp

    rows, views, _ = vectors.shape
    ids = torch.arange(rows, device=vectors.device).repeat_interleave(views)
    others = row_logsumexp(vectors.flatten(0, 1), temperature=temperature, x_ids=ids, exclude="same_id")
    loss = torch.logaddexp(own, others.view(rows, views, 1)) - own
    itself = torch.eye(views, dtype=torch.bool, device=vectors.device)
    if arithmetic:
        likelihood = (-loss).masked_fill(itself, -torch.inf).logsumexp(-1) - math.log(views - 1)
        return -likelihood.mean(1)
    return loss.masked_fill(itself, 0.0).sum((1, 2)) / (views * (views - 1))


def _joint(vectors: Tensor, own: Tensor, temperature: float | Tensor) -> Tensor:
    import torch

    from mmflow.kernels import row_logsumexp

    rows, views, _ = vectors.shape
    all_others = row_logsumexp(vectors.flatten(0, 1), temperature=temperature, exclude="self").view(rows, views)
    itself = torch.eye(views, dtype=torch.bool, device=vectors.device)
    return all_others.logsumexp(1) - own.masked_fill(itself, -torch.inf).flatten(1).logsumexp(1)


def _decoupled(vectors: Tensor, own: Tensor, temperature: float | Tensor) -> Tensor:
    import torch

    from mmflow.kernels import row_logsumexp

    views = vectors.shape[1]
    within = torch.stack(
        [row_logsumexp(view, temperature=temperature, exclude="self") for view in vectors.unbind(1)], dim=1
    )
    # A row alone has no other one to be told from: its sums are empty and its loss is 0.
    alone = within.isinf().any(1)
    above = torch.ones(views, views, dtype=torch.bool, device=vectors.device).triu(1)
    loss = torch.where(within.isinf(), 0.0, within).sum(1) - own.masked_fill(~above, -torch.inf).flatten(1).logsumexp(1)
    return torch.where(alone, 0.0, loss)


def _pairwise(vectors: Tensor, temperature: float | Tensor) -> Tensor:
    views = vectors.shape[1]
    pairs = [(a, b) for a in range(views) for b in range(a + 1, views)]
    values = [_two_views(vectors[:, a], vectors[:, b], temperature) for a, b in pairs]
    return sum(values[1:], values[0]) / len(values)


def _rest(vectors: Tensor, temperature: float | Tensor) -> Tensor:
    views = vectors.shape[1]
    total = vectors.sum(1)
    values = [_two_views(view, (total - view) / (views - 1), temperature) for view in vectors.unbind(1)]
    return sum(values[1:], values[0]) / views


def _two_views(a: Tensor, b: Tensor, temperature: float | Tensor) -> Tensor:
    import torch

    from mmflow.kernels.contrast import sup_con

    rows = torch.arange(len(a), device=a.device)
    values = sup_con(torch.cat([a, b]), rows.repeat(2), temperature=temperature, reduction="none")
    return values.view(2, len(a)).mean(0)
