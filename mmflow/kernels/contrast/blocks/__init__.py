"""The contrastive core under any score: a function that turns two blocks of rows into a block of scores."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from ..pairs import Pairs, PairWeights
from ..pairs.options import (
    Directions,
    Exclude,
    Reduction,
    check_reduction,
    column_scale,
    directions_of,
    pair_rules,
    presence,
    vector,
)
from ..sums import Sums, Want, both_sides
from ..sums.losses import Extra, mean_of_directions, reduce
from .chunked import Rows, Score, only_diagonal, sigmoid_blocks, softmax_blocks


def contrast_blocks(
    score: Score,
    a: Rows,
    b: Rows,
    params: Iterable[Tensor] = (),
    *,
    temperature: float | Tensor,
    form: Literal["softmax", "sigmoid"] = "softmax",
    bias: float | Tensor = 0.0,
    negatives: Rows | None = None,
    negatives_present: Tensor | None = None,
    in_batch: bool = True,
    directions: Directions = "both",
    x_ids: Tensor | None = None,
    y_ids: Tensor | None = None,
    positives: Literal["outside", "inside"] = "outside",
    exclude: Exclude = None,
    x_views: Tensor | None = None,
    y_views: Tensor | None = None,
    x_present: Tensor | None = None,
    y_present: Tensor | None = None,
    row_weights: Tensor | None = None,
    column_weights: Tensor | None = None,
    pair_weights: PairWeights | None = None,
    positive_in_denominator: bool = True,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    block: int = 256,
) -> Tensor:
    """`info_nce` (or, with form="sigmoid", `sigmoid_contrast`) over the scores of any function, block by block.

    No N x M matrix is kept: the forward streams the log-sum-exps over blocks of `score`, the backward computes each
    block again under autograd and sends its gradient on. Exact, also in float64.

    Args:
        score: maps blocks of rows of `a` and `b` (the same keys, [n, ...] and [m, ...]) to scores [n, m], or to a pair
            (s_ab, s_ba), both [n, m], where the two directions differ. It is called several times per block and must
            be a function of its arguments and of `params` (no draws, no state).
        a, b: tensors with N and M rows; those that are floating point and need gradient get it.
        params: the score's own parameters that need gradient.
        negatives: further columns as a dict like b, faced by every row of a (forward direction).
        block: rows and columns of a block; memory is that of `score` on block x block.
        Others: as `info_nce` and `sigmoid_contrast`; temperature is a number, [] or [M] ([M + K] with negatives).

    Returns:
        As `info_nce` or `sigmoid_contrast`. First-order gradients only.

    Cost: `score` on every block once in the forward and once, with its backward, in the backward.

    Raises:
        ValueError: for sizes that do not fit, empty inputs and contradicting options.
    """
    name = "contrast_blocks"
    n, m = _rows_of(name, "a", a), _rows_of(name, "b", b)
    parameters = tuple(p for p in params if p.requires_grad)
    first = next(iter(a.values()))
    device = first.device
    floating = [t.dtype for t in (*a.values(), *b.values()) if t.is_floating_point()]
    dtype = torch.float64 if torch.float64 in floating else torch.float32
    queue = 0 if negatives is None else _rows_of(name, "negatives", negatives)
    scale = column_scale(name, temperature, m, dtype, device, extra=queue)
    own, further = (scale[:m], scale[m:]) if scale.dim() else (scale, scale)
    rules = pair_rules(
        name, n, m, device, x_ids=x_ids, y_ids=y_ids, x_views=x_views, y_views=y_views, x_present=x_present,
        y_present=y_present, exclude=exclude, weights=pair_weights, decoupled=not positive_in_denominator,
    )  # fmt: skip
    row_weights = vector(name, "row_weights", row_weights, n, device)
    column_weights = vector(name, "column_weights", column_weights, m, device)
    negatives_present = presence(name, "negatives_present", negatives_present, (queue,), device)
    queue_rules = Pairs(n, queue, "none", x_present=rules.x_present, y_present=negatives_present)
    if form == "sigmoid":
        check_reduction(name, reduction)
        offset = torch.as_tensor(bias, dtype=dtype, device=device)
        rows = sigmoid_blocks(score, a, b, parameters, own, rules, block, offset)
        if negatives is not None:
            more = sigmoid_blocks(score, a, negatives, parameters, further, queue_rules, block, offset)
            rows = rows + more
        counted = torch.ones(n, dtype=torch.bool, device=device) if rules.x_present is None else rules.x_present
        return reduce([(rows, counted)], [row_weights], reduction)
    if form != "softmax":
        raise ValueError(f"{name}: form is {form!r}; known are softmax and sigmoid")
    wanted = directions_of(name, directions, reduction, n, m)
    if negatives is not None and not wanted[0]:
        raise ValueError(f"{name}: negatives are columns of the forward direction; directions is {directions!r}")
    inside = positives == "inside" and rules.positives == "ids"
    want = Want(*wanted, target=not inside, total=label_smoothing > 0, inside=inside)
    if in_batch:
        want = want._replace(apart=rules.apart)
        sides = both_sides(softmax_blocks(score, a, b, parameters, own, rules, want, block), want)
    else:
        if directions != "forward" or rules.positives != "diagonal" or exclude is not None:
            raise ValueError(
                f"{name}: in_batch=False has only the pairs (i, i): directions='forward', no ids, no rules"
            )
        alone = only_diagonal(rules, n)
        flat = softmax_blocks(score, a, b, parameters, own, alone, want, block)
        sides = [Sums(*flat[:6]), None]
    extra = []
    if negatives is not None:
        queue_want = Want(True, False, target=False, total=want.total)
        flat = softmax_blocks(score, a, negatives, parameters, further, queue_rules, queue_want, block)
        extra.append(Extra(flat[0], flat[2], flat[4]))
    return mean_of_directions(
        sides, extra, [row_weights, column_weights], reduction, smoothing=label_smoothing, inside=want.inside,
        dtype=dtype,
    )  # fmt: skip


def _rows_of(name: str, which: str, tensors: Rows) -> int:
    sizes = {k: t.shape[0] if t.dim() else 0 for k, t in tensors.items()}
    if not sizes or len(set(sizes.values())) > 1 or 0 in sizes.values():
        raise ValueError(f"{name}: {which} holds tensors of rows {sizes}; all have one number of rows, at least 1")
    return next(iter(sizes.values()))
