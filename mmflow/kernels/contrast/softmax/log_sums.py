"""The log-sum-exp of each row's scores, for objectives that are made of such sums in another way than InfoNCE."""

import torch
from torch import Tensor

from ..pairs import Pairs
from ..pairs.options import Exclude, column_scale, form_for, pair_rules, rule_names, same_width
from ..pairs.reference import pair_masks
from ..sums import Want
from ..sums.reference import precise
from ..tiles.chunked import compute_dtype


def row_logsumexp(
    x: Tensor,
    y: Tensor | None = None,
    *,
    temperature: float | Tensor = 1.0,
    exclude: Exclude = None,
    x_ids: Tensor | None = None,
    y_ids: Tensor | None = None,
    x_views: Tensor | None = None,
    y_views: Tensor | None = None,
    x_present: Tensor | None = None,
    y_present: Tensor | None = None,
    pair_weights: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """log sum_j w_ij exp(<x_i, y_j> / temperature) of every row i over the columns j that no rule excludes, streamed.

    Args:
        x: [N, D], floating point. y: [M, D]; x itself by default. Nothing is normalized.
        temperature: a number, a tensor [] or [M]; may need gradient.
        exclude: "self" leaves out the pairs (i, i), "same_id" all pairs of equal ids, "same_view" those of equal view.
        x_ids, y_ids, x_views, y_views: [N], [M] integers (those of y default to those of x).
        x_present, y_present: [N], [M] boolean; absent columns are left out, absent rows have no column.
        pair_weights: [N, M], the w_ij, no gradient.

    Returns:
        [N], float32 (float64 where an input is); -inf, with gradient 0, where a row has no column. Gradients reach x, y
        and temperature.

    Cost: 2NMD FLOP forward, 6NMD with the backward; memory grows with N + M.

    Raises:
        ValueError: for sizes that do not fit, empty inputs and rules without their ids.
    """
    y = x if y is None else y
    same_width(x, y, "row_logsumexp")
    n, m = len(x), len(y)
    pairs = pair_rules(
        "row_logsumexp", n, m, x.device, x_ids=x_ids, y_ids=y_ids, x_views=x_views, y_views=y_views,
        x_present=x_present, y_present=y_present, exclude=exclude, weights=pair_weights, any_shape=True,
    )  # fmt: skip
    pairs = _without_positives(pairs)
    scale = column_scale("row_logsumexp", temperature, m, compute_dtype(x, y), x.device)
    form = form_for("row_logsumexp", x, y, backend=backend, weights=pair_weights)
    if form == "reference":
        return _reference(x, y, scale, pairs, rule_names("row_logsumexp", exclude)).to(scale.dtype)
    if form == "triton":
        from . import fused as core
    else:
        from . import chunked as core
    sums, _ = core.softmax_sums(x, y, scale, pairs, Want(True, False, target=False))
    assert sums is not None
    return sums.lse.to(scale.dtype)


def _without_positives(pairs: Pairs) -> Pairs:
    """The same rules where no pair is positive, so that `same_id` leaves out the diagonal too."""
    return Pairs(
        pairs.rows, pairs.columns, "none", pairs.x_ids, pairs.y_ids, pairs.x_views, pairs.y_views, pairs.x_present,
        pairs.y_present, pairs.without_self, pairs.without_same_id, pairs.without_same_view, weights=pairs.weights,
    )  # fmt: skip


def _reference(x: Tensor, y: Tensor, scale: Tensor, pairs: Pairs, exclude: tuple[str, ...]) -> Tensor:
    x, y, scale = precise(x, y, scale)
    scores = (x @ y.T) * scale
    masks = {
        "x_views": pairs.x_views, "y_views": pairs.y_views, "x_present": pairs.x_present, "y_present": pairs.y_present,
        "exclude": tuple(name for name in exclude if name != "same_id"),
    }  # fmt: skip
    _, out = pair_masks(len(x), len(y), x.device, **masks)
    if "same_id" in exclude:
        assert pairs.x_ids is not None
        assert pairs.y_ids is not None
        out = out | (pairs.x_ids[:, None] == pairs.y_ids[None, :])
    if pairs.weights is not None:
        assert isinstance(pairs.weights, Tensor)
        scores = scores + pairs.weights.to(scores.dtype).log()
    some = ~out.all(1)
    kept = torch.where(some[:, None] & out, -torch.inf, torch.where(some[:, None], scores, 0.0))
    return torch.where(some, kept.logsumexp(1), -torch.inf)
