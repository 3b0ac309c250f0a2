"""A binary decision for every pair: the sigmoid loss."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...inputs import positive
from ..pairs import Pairs, PairWeights
from ..pairs.options import (
    Exclude,
    Reduction,
    check_reduction,
    column_scale,
    form_for,
    pair_rules,
    presence,
    rule_names,
    same_width,
    vector,
)
from ..ranks import Mode, exchange_over
from ..tiles.chunked import compute_dtype
from ..tiles.small import is_small
from .one_tile import small_sigmoid

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def sigmoid_contrast(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float | Tensor,
    bias: float | Tensor = 0.0,
    negatives: Tensor | None = None,
    negatives_present: Tensor | None = None,
    x_ids: Tensor | None = None,
    y_ids: Tensor | None = None,
    exclude: Exclude = None,
    x_views: Tensor | None = None,
    y_views: Tensor | None = None,
    x_present: Tensor | None = None,
    y_present: Tensor | None = None,
    row_weights: Tensor | None = None,
    pair_weights: PairWeights | None = None,
    reduction: Reduction = "mean",
    group: "ProcessGroup | None" = None,
    exchange: Mode = "ring",
    backend: str | None = None,
) -> Tensor:
    """Sigmoid loss over all pairs (SigLIP; Zhai et al., 2023): each pair is a binary decision of its own.

    With s_ij = <x_i, y_j> / temperature + bias, row i contributes the sum over j of w_ij log(1 + exp(-z_ij s_ij)),
    where z_ij is 1 for positives and -1 otherwise; "mean" divides the sum over rows by their number, as published.

    Args:
        x: [N, D]. y: [M, D]. Nothing is normalized here.
        temperature: a number, a tensor [] or [M] ([M + K] with `negatives`); the inverse of the published scale.
        bias: a number or a tensor []; may need gradient.
        negatives: [K, D], further columns that are nobody's positive. negatives_present: [K] boolean.
        x_ids, y_ids, exclude, x_views, y_views, x_present, y_present, pair_weights: as in `info_nce`.
        row_weights: [N], weight of each row's sum; "mean" divides by the sum of weights of present rows.
        reduction: "mean", "sum" or "none" (one value per row of x).
        group, exchange: as in `info_nce`.

    Returns:
        A scalar or [N], in float32 (float64 where an input is).

    Cost: 6NMD FLOP forward and backward together ("mean" and "sum": the gradient is computed in the forward; "none":
    8NMD), two tiles of 4 MiB. Values and gradients are within 1e-5 of the float64 definition in float32 computation.

    Raises:
        ValueError: for sizes that do not fit, empty inputs and contradicting options.
    """
    plain = (
        (x_ids, y_ids, exclude, x_present, y_present, negatives, pair_weights, row_weights, group) == (None,) * 9
        and reduction in ("mean", "sum")
        and exchange in ("ring", "gather")
        and not (isinstance(bias, Tensor) and (bias.dim() or not bias.is_cpu))
    )
    if plain and is_small(x, y, temperature, backend):
        positive("sigmoid_contrast", temperature)
        return small_sigmoid(x, y, temperature, bias, reduction == "mean")
    same_width(x, y, "sigmoid_contrast")
    check_reduction("sigmoid_contrast", reduction)
    n, m, device, dtype = x.shape[0], y.shape[0], x.device, compute_dtype(x, y)
    rules = {
        "x_ids": x_ids, "y_ids": y_ids, "x_views": x_views, "y_views": y_views,
        "x_present": x_present, "y_present": y_present, "exclude": exclude,
    }  # fmt: skip
    split = exchange_over("sigmoid_contrast", group, exchange, n, m, device)
    pairs = pair_rules(
        "sigmoid_contrast",
        n,
        m,
        device,
        **rules,
        weights=pair_weights,
        all_columns=None if split is None else split.whole[1],
    )
    if negatives is not None:
        same_width(x, negatives, "sigmoid_contrast (negatives)")
    queue = 0 if negatives is None else negatives.shape[0]
    scale = column_scale("sigmoid_contrast", temperature, m, dtype, device, extra=queue)
    offset = torch.as_tensor(bias, dtype=dtype, device=device)
    if offset.dim():
        raise ValueError(f"sigmoid_contrast: bias has shape {tuple(offset.shape)}; it is one number")
    row_weights = vector("sigmoid_contrast", "row_weights", row_weights, n, device)
    negatives_present = presence("sigmoid_contrast", "negatives_present", negatives_present, (queue,), device)
    form = form_for("sigmoid_contrast", x, y, negatives, backend=backend, weights=pair_weights, split=split is not None)
    if form == "reference":
        from .reference import sigmoid_loss

        return sigmoid_loss(
            x, y, temperature=scale.reciprocal(), bias=offset, negatives=negatives,
            negatives_present=negatives_present, masks=rules | {"exclude": rule_names("sigmoid_contrast", exclude),
            "y_ids": pairs.y_ids, "y_views": pairs.y_views}, pair_weights=pair_weights, row_weights=row_weights,
            reduction=reduction,
        )  # fmt: skip
    if form == "triton":
        from . import fused as core
    else:
        from . import chunked as core
    weights = torch.ones(n, dtype=dtype, device=device) if row_weights is None else row_weights.to(dtype)
    if pairs.x_present is not None:
        weights = weights * pairs.x_present
    if reduction == "mean":
        count = weights.sum() if split is None else split.sum(weights.sum())
        weights = weights / torch.where(count > 0, count, torch.ones_like(count))
    summed = reduction != "none"
    own = scale[:m] if scale.dim() else scale
    if split is None:
        loss = core.sigmoid_rows(x, y, own, offset, weights, pairs, summed)
    else:
        from .ranks import sigmoid_rows

        loss = sigmoid_rows(x, y, own, offset, weights, pairs, summed, split, core.sigmoid_sweep)
    if negatives is not None:
        more = Pairs(n, queue, "none", x_present=pairs.x_present, y_present=negatives_present)
        own = scale[m:] if scale.dim() else scale
        loss = loss + core.sigmoid_rows(x, negatives, own, offset, weights, more, summed)
    return loss if split is None or not summed else split.sum(loss)
