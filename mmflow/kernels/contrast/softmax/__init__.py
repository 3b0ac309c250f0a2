"""Cross-entropy over a softmax of the scores of all pairs: InfoNCE and its supervised form."""

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from ...inputs import positive
from ..pairs import PairWeights
from ..pairs.options import (
    Directions,
    Exclude,
    Reduction,
    column_scale,
    directions_of,
    form_for,
    pair_rules,
    presence,
    rule_names,
    same_width,
    vector,
)
from ..ranks import Mode, exchange_over
from ..sums import Want
from ..sums.losses import mean_of_directions
from ..tiles.chunked import compute_dtype
from ..tiles.small import is_small
from .columns import own_pairs, private_columns, queue_columns
from .one_tile import small_info_nce

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def info_nce(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float | Tensor,
    negatives: Tensor | None = None,
    negatives_present: Tensor | None = None,
    private_negatives: Tensor | None = None,
    private_present: Tensor | None = None,
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
    group: "ProcessGroup | None" = None,
    exchange: Mode = "ring",
    backend: str | None = None,
) -> Tensor:
    """InfoNCE: cross-entropy of each row against all columns and of each column against all rows.

    With scores s_ij = <x_i, y_j> / temperature, the forward direction of row i is

        log( sum_j w_ij exp(s_ij) + sum over extra columns ) - mean over its positives p of s_ip

    (van den Oord et al., 2018; both directions: Radford et al., 2021). Nothing is normalized here: pass unit rows for
    cosine similarity.

    Args:
        x: [N, D], floating point. y: [M, D]. Positives are the pairs (i, i) unless ids are given; then N = M.
        temperature: a number, a tensor [] or one value per column [M] ([M + K] with K `negatives`); may need gradient.
        negatives: [K, D], columns that every row of x faces and that are no row's positive (a queue); forward only.
        negatives_present: [K] boolean.
        private_negatives: [N, K, D], columns that only row i faces; forward only. private_present: [N, K] boolean.
        in_batch: False leaves a row only its own positive and the extra columns (He et al., 2020).
        directions: "both", "forward" (rows of x), "backward" (rows of y).
        x_ids, y_ids: [N], [M] integers; pairs of equal ids are positives (y_ids defaults to x_ids).
        positives: "outside" averages over positives outside the logarithm (Khosla et al., 2020), "inside" sums their
            exponentials inside it (Miech et al., 2020).
        exclude: "self" drops the pairs (i, i), "same_view" pairs of equal view, from positives and denominators;
            "same_id" keeps the diagonal as the positive and drops other pairs of equal ids from the denominators.
        x_present, y_present: [N], [M] boolean; absent rows take part in nothing.
        row_weights, column_weights: [N], [M], weights of the losses of rows of x and of rows of y in the mean.
        pair_weights: [N, M] (an expanded view is not copied), or a function of two slices that returns that block: the
            w_ij in every denominator, no gradient.
        positive_in_denominator: False gives the decoupled loss (Yeh et al., 2022).
        label_smoothing: share of the target that is spread evenly over all columns of the denominator.
        reduction: "mean" (weighted, over rows that have a positive and a denominator; of both directions their mean),
            "sum", or "none": one value per row ("both": half the sum of the pair's two directions; needs N = M).
        group: a process group over which the batch is split: x, y, ids, weights and masks are this rank's part (of
            pair_weights its rows, [N, M of all ranks]), the pairs are those of the global batch. The loss is the
            global one on every rank ("none": this rank's rows); x and y get the gradients of a single process,
            replicated inputs (temperature, negatives) this rank's part of theirs, to be summed over ranks.
        exchange: how ranks meet each other's y: "ring" passes blocks on, and no rank holds more than two; "gather"
            brings all of y to every rank, in fewer and larger messages.

    Returns:
        A scalar, or [N] ([M] for "backward"), in float32 (float64 where an input is). A row without a positive or
        without a denominator has loss 0, gradient 0 and is left out of the mean.

    Gradients of first order reach x, y, temperature, negatives and private_negatives.

    Cost: 8NMD FLOP forward and backward together, two exponentials a pair, three tiles of 4 MiB of memory. Where
    |s_ij| may exceed 150 each direction has its own exponentials. Values and gradients are within 1e-5 (float32
    computation) of the float64 definition and have the same bits at every run.

    Raises:
        ValueError: for sizes that do not fit, empty inputs and contradicting options.
    """
    plain = (
        (x_ids, y_ids, exclude, x_present, y_present, negatives, private_negatives, group) == (None,) * 8
        and (pair_weights, row_weights, column_weights) == (None,) * 3
        and (in_batch, positive_in_denominator, label_smoothing) == (True, True, 0)
        and directions in ("both", "forward", "backward")
        and positives in ("outside", "inside")
        and exchange in ("ring", "gather")
        and reduction in ("mean", "sum")
    )
    if plain and is_small(x, y, temperature, backend):
        positive("info_nce", temperature)
        return small_info_nce(x, y, temperature, directions != "backward", directions != "forward", reduction == "mean")
    same_width(x, y, "info_nce")
    n, m, device, dtype = x.shape[0], y.shape[0], x.device, compute_dtype(x, y)
    wanted = directions_of("info_nce", directions, reduction, n, m)
    if not in_batch and (directions != "forward" or x_ids is not None or exclude is not None):
        raise ValueError(
            "info_nce: in_batch=False has only the pairs (i, i): use directions='forward', no ids, no rules"
        )
    if (negatives is not None or private_negatives is not None) and directions == "backward":
        raise ValueError("info_nce: extra negatives are columns of the forward direction; directions is 'backward'")
    if positives not in ("outside", "inside"):
        raise ValueError(f"info_nce: positives is {positives!r}; known are 'outside' and 'inside'")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"info_nce: label_smoothing is {label_smoothing}; it is a share in [0, 1)")
    rules = {
        "x_ids": x_ids, "y_ids": y_ids, "x_views": x_views, "y_views": y_views,
        "x_present": x_present, "y_present": y_present, "exclude": exclude,
    }  # fmt: skip
    split = exchange_over("info_nce", group, exchange, n, m, device)
    pairs = pair_rules(
        "info_nce",
        n,
        m,
        device,
        **rules,
        weights=pair_weights,
        decoupled=not positive_in_denominator,
        all_columns=None if split is None else split.whole[1],
    )
    if negatives is not None:
        same_width(x, negatives, "info_nce (negatives)")
    queue = 0 if negatives is None else negatives.shape[0]
    scale = column_scale("info_nce", temperature, m, dtype, device, extra=queue)
    if private_negatives is not None and scale.dim():
        raise ValueError("info_nce: private negatives take one temperature for all columns, not one per column")
    row_weights = vector("info_nce", "row_weights", row_weights, n, device)
    column_weights = vector("info_nce", "column_weights", column_weights, m, device)
    negatives_present = presence("info_nce", "negatives_present", negatives_present, (queue,), device)
    inside = positives == "inside" and pairs.positives == "ids"  # with one positive a row the two forms are one
    form = form_for(
        "info_nce", x, y, negatives, private_negatives, backend=backend, weights=pair_weights, split=split is not None
    )
    if form == "reference":
        from .reference import softmax_loss

        return softmax_loss(
            x, y, temperature=scale.reciprocal(), negatives=negatives, negatives_present=negatives_present,
            private_negatives=private_negatives, private_present=private_present, in_batch=in_batch,
            directions=directions, masks=rules | {"exclude": rule_names("info_nce", exclude),
            "y_ids": pairs.y_ids, "y_views": pairs.y_views}, pair_weights=pair_weights, row_weights=row_weights,
            column_weights=column_weights, inside=positives == "inside",
            positive_in_denominator=positive_in_denominator, label_smoothing=label_smoothing, soft=None,
            hard_share=1.0, reduction=reduction,
        )  # fmt: skip
    want = Want(*wanted, target=not inside, total=label_smoothing > 0, inside=inside)
    own = scale[:m] if scale.dim() else scale
    if form == "triton":
        from . import fused as core
    else:
        from . import chunked as core
    if not in_batch:
        sides = (own_pairs(x, y, own, pairs, want), None)
    elif split is None:
        sides = core.softmax_sums(x, y, own, pairs, want)
    else:
        from .ranks import softmax_sums

        sides = softmax_sums(x, y, own, pairs, want, None, split, core)
    extra = []
    if negatives is not None:
        extra.append(
            queue_columns(core.softmax_sums, x, negatives, scale[m:] if scale.dim() else scale, negatives_present, want)
        )
    if private_negatives is not None:
        extra.append(private_columns(x, private_negatives, scale, private_present, want))
    return mean_of_directions(
        sides, extra, [row_weights, column_weights], reduction, smoothing=label_smoothing, inside=want.inside,
        across=None if split is None else split.sum, dtype=dtype,
    )  # fmt: skip


def sup_con(
    x: Tensor,
    ids: Tensor,
    *,
    temperature: float | Tensor,
    y: Tensor | None = None,
    y_ids: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Supervised contrastive loss (Khosla et al., 2020): rows of one id attract each other among all other rows.

    Args:
        x: [N, D]. ids: [N] integers.
        y, y_ids: [M, D], [M]: what the rows are compared with, where it is not the batch itself (a queue, another
            modality). Without y a row is not compared with itself.
        options: those of `info_nce`; `positives` chooses between the two published forms, `reduction` as there.

    Returns:
        As `info_nce` in the forward direction: rows without another row of their id are left out of the mean.
    """
    if y is None:
        exclude = ("self", *rule_names("sup_con", options.pop("exclude", None)))
        return info_nce(
            x, x, temperature=temperature, x_ids=ids, y_ids=ids, exclude=exclude, directions="forward", **options
        )
    if y_ids is None:
        raise ValueError("sup_con: y is given without y_ids")
    return info_nce(x, y, temperature=temperature, x_ids=ids, y_ids=y_ids, directions="forward", **options)
