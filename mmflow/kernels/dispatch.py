"""Which form of an operation runs: the definition, streaming PyTorch, or Triton.

An operation is a folder of four files::

    mmflow/kernels/<operation>/
        __init__.py    the public function: docstring, checks of the input, then `choose` and a call
        reference.py   the definition, materialized, any dtype; the truth of the tests
        chunked.py     streaming PyTorch: any device, float64 too, memory grows with N and not with N x M
        fused.py       Triton, forward and backward; imported only once `choose` has answered "triton"

The three take the same arguments and return the same values within the tolerance that the public docstring states,
so that each can stand for the others. Which one runs is decided in this order:

1. the argument ``backend=`` of the public function (tests and benchmarks): that form or an error;
2. the environment variable ``MMFLOW_KERNELS``: that form, except that ``triton`` means ``chunked`` where an operation
   has no Triton form for what it was given (float64, a rare option, tensors on the CPU outside Triton's interpreter);
3. the device: ``triton`` for CUDA tensors that the Triton form takes, else ``chunked``.

A public function begins like this::

    form = choose("sinkhorn", scores, backend=backend)
    if form == "triton":
        from .fused import sinkhorn as run
    elif form == "chunked":
        from .chunked import sinkhorn as run
    else:
        from .reference import sinkhorn as run
    return run(...)
"""

import functools
import importlib.util
import os
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar, cast, get_args

import torch
from torch import Tensor

Backend = Literal["reference", "chunked", "triton"]

P = ParamSpec("P")
R = TypeVar("R")

VARIABLE = "MMFLOW_KERNELS"


def choose(operation: str, *tensors: Tensor | None, backend: str | None = None, without_triton: str = "") -> Backend:
    """The form in which `operation` runs on `tensors`.

    Args:
        operation: the public name, for messages.
        tensors: the floating point inputs; None is skipped.
        backend: "reference", "chunked" or "triton" to force a form, None to follow the environment and the device.
        without_triton: why the Triton form cannot take these arguments; empty when it can.

    Raises:
        ValueError: for an unknown word, or where `backend="triton"` is asked and cannot be had.
    """
    if backend is not None:
        form = _word(backend, f"{operation}(backend=...)")
        if form == "triton":
            obstacle = without_triton or triton_obstacle(*tensors)
            if obstacle:
                raise ValueError(f"{operation}: the triton form cannot run here: {obstacle}; use backend='chunked'")
        return form
    asked = os.environ.get(VARIABLE, "")
    if asked:
        form = _word(asked, f"the environment variable {VARIABLE}")
        if form == "triton" and (without_triton or triton_obstacle(*tensors)):
            return "chunked"
        return form
    on_gpu = any(t is not None and t.is_cuda for t in tensors)
    return "triton" if on_gpu and not without_triton and not triton_obstacle(*tensors) else "chunked"


def triton_obstacle(*tensors: Tensor | None) -> str:
    """Why Triton cannot work on these tensors, or an empty string."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    given = [t for t in tensors if t is not None]
    if any(t.dtype == torch.float64 for t in given):
        return "float64 is computed by the chunked form"
    if not interpreted() and not all(t.is_cuda for t in given):
        return "the tensors are not on a CUDA device (set TRITON_INTERPRET=1 to interpret kernels on the CPU)"
    return ""


def interpreted() -> bool:
    """Whether Triton kernels are interpreted (on the CPU, for tests)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def opaque(function: Callable[P, R]) -> Callable[P, R]:
    """Keeps torch.compile from tracing into `function`, without importing the compiler where nobody uses it."""
    hidden: list[Callable[P, R]] = []

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # seen as true by the compiler alone; the wrapper of `disable` costs more than a small loss
        if not torch.compiler.is_compiling():
            return function(*args, **kwargs)
        if not hidden:
            hidden.append(cast(Callable[P, R], torch.compiler.disable(function)))
        return hidden[0](*args, **kwargs)

    return call


def _word(word: str, where: str) -> Backend:
    if word not in get_args(Backend):
        raise ValueError(f"{where} is {word!r}; known are {', '.join(get_args(Backend))}")
    return cast(Backend, word)
