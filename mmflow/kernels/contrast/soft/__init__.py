"""Contrast against soft targets that are themselves scores: distillation of similarities."""

from typing import TYPE_CHECKING

from torch import Tensor

from ..pairs.options import (
    Directions,
    Exclude,
    Reduction,
    column_scale,
    directions_of,
    form_for,
    pair_rules,
    rule_names,
    same_width,
    vector,
)
from ..ranks import Mode, exchange_over
from ..sums import Want
from ..sums.losses import mean_of_directions
from ..tiles.chunked import compute_dtype

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def soft_contrast(
    x: Tensor,
    y: Tensor,
    x_teacher: Tensor,
    y_teacher: Tensor,
    *,
    temperature: float | Tensor,
    teacher_temperature: float | Tensor,
    top_k: int | None = None,
    hard: float = 0.0,
    directions: Directions = "both",
    exclude: Exclude = None,
    x_present: Tensor | None = None,
    y_present: Tensor | None = None,
    row_weights: Tensor | None = None,
    column_weights: Tensor | None = None,
    reduction: Reduction = "mean",
    group: "ProcessGroup | None" = None,
    exchange: Mode = "ring",
    backend: str | None = None,
) -> Tensor:
    """Cross-entropy against soft targets that are themselves a softmax of scores, computed tile by tile.

    The targets of row i are (1 - hard) softmax_j(<x_teacher_i, y_teacher_j> / teacher_temperature) + hard [i = j];
    of column j the same over i (distillation of similarities: Andonian et al., 2022; Gao et al., 2024).

    Args:
        x: [N, D]. y: [M, D]. x_teacher: [N, E]. y_teacher: [M, E]; no gradient reaches the teachers.
        temperature, teacher_temperature: a number or a tensor [] or [M].
        top_k: keep only each row's (column's) k highest teacher scores; ties with the k-th, to rounding, stay in.
        hard: share of the one-hot target, in [0, 1].
        exclude: "self" drops the pairs (i, i) from targets and denominators.
        directions, x_present, y_present, row_weights, column_weights, reduction, group, exchange: as in `info_nce`;
            teachers are split as x and y are.

    Returns:
        As `info_nce`. Cost: that of `info_nce`, and the teacher's tiles of 2NME FLOP: once for their sums, once more
        for the bars of `top_k`, and in each pass (on the CPU for each direction).

    Raises:
        ValueError: for sizes that do not fit and empty inputs.
    """
    same_width(x, y, "soft_contrast")
    same_width(x_teacher, y_teacher, "soft_contrast (teachers)")
    if x_teacher.shape[0] != x.shape[0] or y_teacher.shape[0] != y.shape[0]:
        raise ValueError(
            f"soft_contrast: teachers have {x_teacher.shape[0]} and {y_teacher.shape[0]} rows, "
            f"x and y {x.shape[0]} and {y.shape[0]}"
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"soft_contrast: top_k is {top_k}; it is at least 1")
    if not 0 <= hard <= 1:
        raise ValueError(f"soft_contrast: hard is {hard}; it is a share in [0, 1]")
    names = rule_names("soft_contrast", exclude)
    if set(names) - {"self"}:
        raise ValueError(f"soft_contrast: exclude is {names}; only 'self' has a meaning with soft targets")
    n, m, device, dtype = x.shape[0], y.shape[0], x.device, compute_dtype(x, y)
    wanted = directions_of("soft_contrast", directions, reduction, n, m)
    rules = {"x_present": x_present, "y_present": y_present, "exclude": exclude}
    split = exchange_over("soft_contrast", group, exchange, n, m, device)
    pairs = pair_rules("soft_contrast", n, m, device, **rules, any_shape=hard == 0)
    scale = column_scale("soft_contrast", temperature, m, dtype, device)
    teacher_dtype = compute_dtype(x_teacher, y_teacher)
    teacher_scale = column_scale(
        "soft_contrast", teacher_temperature, m, teacher_dtype, device, name="teacher_temperature"
    )
    row_weights = vector("soft_contrast", "row_weights", row_weights, n, device)
    column_weights = vector("soft_contrast", "column_weights", column_weights, m, device)
    form = form_for("soft_contrast", x, y, x_teacher, y_teacher, backend=backend, split=split is not None)
    if form == "reference":
        from .reference import soft_loss

        return soft_loss(
            x, y, (x_teacher, y_teacher, teacher_scale.reciprocal(), top_k), temperature=scale.reciprocal(),
            directions=directions, masks=rules | {"exclude": names}, row_weights=row_weights,
            column_weights=column_weights, hard=hard, reduction=reduction,
        )  # fmt: skip
    want = Want(*wanted, target=True)
    if form == "triton":
        from .fused import Teacher, add_sums, core
    else:
        from .chunked import Teacher, add_sums, core
    teacher = Teacher(x_teacher, y_teacher, teacher_scale, pairs, hard)
    if split is None:
        from .chunked import prepare

        prepare(teacher, want, top_k, add_sums)
        sides = core.softmax_sums(x, y, scale, pairs, want, teacher)
    else:
        from ..softmax.ranks import softmax_sums
        from .ranks import prepare as prepare_split

        prepare_split(teacher, want, top_k, split, add_sums)
        sides = softmax_sums(x, y, scale, pairs, want, teacher, split, core)
    return mean_of_directions(
        sides, [], [row_weights, column_weights], reduction, soft=True,
        across=None if split is None else split.sum, dtype=dtype,
    )  # fmt: skip
