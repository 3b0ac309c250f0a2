"""The options that the contrastive losses share: checked once, with one message each, and turned into rules."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ...dispatch import Backend, choose
from ...inputs import positive
from . import Pairs, PairWeights

Directions = Literal["both", "forward", "backward"]
Reduction = Literal["mean", "sum", "none"]
Exclude = str | Sequence[str] | None

_RULES = ("self", "same_id", "same_view")


def rule_names(operation: str, exclude: Exclude) -> tuple[str, ...]:
    names = () if exclude is None else (exclude,) if isinstance(exclude, str) else tuple(exclude)
    for name in names:
        if name not in _RULES:
            raise ValueError(f"{operation}: exclude has {name!r}; known are {', '.join(_RULES)}")
    return names


def directions_of(operation: str, directions: str, reduction: str, n: int, m: int) -> tuple[bool, bool]:
    """Whether rows and whether columns have a loss."""
    if directions not in ("both", "forward", "backward"):
        raise ValueError(f"{operation}: directions is {directions!r}; known are both, forward, backward")
    check_reduction(operation, reduction)
    if directions == "both" and reduction == "none" and n != m:
        raise ValueError(
            f"{operation}: reduction='none' in both directions gives one value per pair, but there are {n} rows "
            f"and {m} columns; take one direction"
        )
    return directions != "backward", directions != "forward"


def check_reduction(operation: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{operation}: reduction is {reduction!r}; known are mean, sum, none")


def pair_rules(
    operation: str,
    n: int,
    m: int,
    device: torch.device,
    *,
    x_ids: Tensor | None = None,
    y_ids: Tensor | None = None,
    x_views: Tensor | None = None,
    y_views: Tensor | None = None,
    x_present: Tensor | None = None,
    y_present: Tensor | None = None,
    exclude: Exclude = None,
    weights: PairWeights | None = None,
    decoupled: bool = False,
    any_shape: bool = False,
    all_columns: int | None = None,
) -> Pairs:
    """The rules over n x m pairs. `any_shape` lets positives on the diagonal be missing in some rows.

    Where the batch is split over ranks, weights are those of this rank's rows and of `all_columns`.
    """
    names = rule_names(operation, exclude)
    x_ids, y_ids = _both(operation, "ids", x_ids, y_ids, n, m)
    x_views, y_views = _both(operation, "views", x_views, y_views, n, m)
    if "same_id" in names and x_ids is None:
        raise ValueError(f"{operation}: exclude='same_id' needs x_ids")
    if "same_view" in names and x_views is None:
        raise ValueError(f"{operation}: exclude='same_view' needs x_views")
    by_ids = x_ids is not None and "same_id" not in names
    if not by_ids and not any_shape and n != m:
        raise ValueError(f"{operation}: {n} rows and {m} columns have no pairs (i, i); give x_ids and y_ids")
    if isinstance(weights, Tensor):
        against = m if all_columns is None else all_columns
        if weights.shape != (n, against):
            raise ValueError(f"{operation}: pair_weights has shape {tuple(weights.shape)}; it is [{n}, {against}]")
        if weights.device != device:
            raise ValueError(f"{operation}: pair_weights lies on {weights.device}, the matrices on {device}")
    elif weights is not None and all_columns is not None:
        raise ValueError(f"{operation}: pair_weights as a function is not split over ranks; give a tensor")
    return Pairs(
        rows=n,
        columns=m,
        positives="ids" if by_ids else "diagonal",
        x_ids=x_ids,
        y_ids=y_ids,
        x_views=x_views,
        y_views=y_views,
        x_present=presence(operation, "x_present", x_present, (n,), device),
        y_present=presence(operation, "y_present", y_present, (m,), device),
        without_self="self" in names,
        without_same_id="same_id" in names,
        without_same_view="same_view" in names,
        without_positives=decoupled,
        weights=weights.detach() if isinstance(weights, Tensor) else weights,
    )


def column_scale(
    operation: str,
    temperature: float | Tensor,
    columns: int,
    dtype: torch.dtype,
    device: torch.device,
    extra: int = 0,
    name: str = "temperature",
) -> Tensor:
    """The inverse temperature, [] or [columns + extra], in the dtype of the computation; gradient flows through."""
    positive(operation, temperature, name)
    t = torch.as_tensor(temperature, dtype=dtype, device=device)
    if t.dim() > 1 or (t.dim() == 1 and t.shape[0] != columns + extra):
        more = f" + {extra}" if extra else ""
        raise ValueError(
            f"{operation}: {name} has shape {tuple(t.shape)}; it is one number or one per column [{columns}{more}]"
        )
    return t.reciprocal()


def same_width(x: Tensor, y: Tensor, operation: str) -> None:
    for name, t in (("first", x), ("second", y)):
        if t.dim() != 2:
            raise ValueError(f"{operation}: the {name} matrix has shape {tuple(t.shape)}; it is [rows, features]")
        if not t.is_floating_point():
            raise ValueError(f"{operation}: the {name} matrix is {t.dtype}; it is floating point")
        if not t.numel():
            raise ValueError(
                f"{operation}: the {name} matrix is empty ({tuple(t.shape)}); a batch has at least one row"
            )
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{operation}: rows have {x.shape[1]} and {y.shape[1]} features; both matrices share one size")
    if x.device != y.device:
        raise ValueError(f"{operation}: the matrices lie on {x.device} and {y.device}; move them to one device")


def vector(operation: str, name: str, value: Tensor | None, size: int, device: torch.device) -> Tensor | None:
    if value is not None and value.shape != (size,):
        raise ValueError(f"{operation}: {name} has shape {tuple(value.shape)}; it is [{size}]")
    return None if value is None else value.to(device)


def presence(
    operation: str, name: str, value: Tensor | None, shape: tuple[int, ...], device: torch.device
) -> Tensor | None:
    if value is not None and tuple(value.shape) != shape:
        raise ValueError(f"{operation}: {name} has shape {tuple(value.shape)}; it is {list(shape)}")
    return None if value is None else value.to(device=device, dtype=torch.bool)


def _both(
    operation: str, what: str, x: Tensor | None, y: Tensor | None, n: int, m: int
) -> tuple[Tensor | None, Tensor | None]:
    if x is None and y is None:
        return None, None
    if x is None:
        raise ValueError(f"{operation}: y_{what} is given without x_{what}")
    if y is None:
        y = x
    if x.shape != (n,) or y.shape != (m,):
        raise ValueError(
            f"{operation}: {what} have shapes {tuple(x.shape)} and {tuple(y.shape)}; they are [{n}] and [{m}]"
        )
    return x, y


def form_for(
    operation: str,
    *tensors: Tensor | None,
    backend: str | None,
    weights: PairWeights | None = None,
    split: bool = False,
) -> Backend:
    """Which form runs, by `dispatch.choose`; a batch that is split has no reference."""
    obstacle = ""
    if weights is not None and not isinstance(weights, Tensor):
        obstacle = "pair_weights as a function is computed by the chunked form; give a tensor"
    if split and backend == "reference":
        raise ValueError(f"{operation}: the reference form is not split over ranks; leave group out")
    form = choose(operation, *tensors, backend=backend, without_triton=obstacle)
    return "chunked" if split and form == "reference" else form
