"""The forms of the cores, each as one set of functions that can stand for the other."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from ..dispatch import Backend, choose
from .pairs import PairWeights
from .teacher import Teacher


class Form(NamedTuple):
    """Attributes:
    softmax_sums, sigmoid_rows: a whole batch, differentiable.
    sweep, gradients, sigmoid_sweep: one block of pairs of a batch that is split, and its gradients.
    teacher: soft targets.
    """

    softmax_sums: Callable[..., Any]
    sweep: Callable[..., Any]
    gradients: Callable[..., Any]
    sigmoid_rows: Callable[..., Any]
    sigmoid_sweep: Callable[..., Any]
    teacher: type[Teacher]


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


def load(name: str) -> Form:
    """The form "chunked" or "triton"; Triton is imported only then."""
    if name == "triton":
        from . import fused, fused_sigmoid
        from .fused_teacher import FusedTeacher

        return Form(
            fused.softmax_sums, fused.sweep, fused.gradients, fused_sigmoid.sigmoid_rows, fused_sigmoid.sigmoid_sweep,
            FusedTeacher,
        )  # fmt: skip
    from . import chunked, sigmoid

    return Form(
        chunked.softmax_sums, chunked.sweep, chunked.gradients, sigmoid.sigmoid_rows, sigmoid.sigmoid_sweep, Teacher
    )
