"""The checks of a loss: its gradient, and everything that must not change its value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from mmflow.plugin import Encoding, Loss, Tokens
from mmflow.plugin.binding import binding
from mmflow.testing.case import Case, Untestable
from mmflow.testing.compute import Computed, Held, Input, Settings, compute
from mmflow.testing.faults import Fault
from mmflow.testing.ranks import on_two_ranks

EXACT = Settings()
"""Float64, the whole batch at once."""
_CLOSE = 1e-9
"""Relative difference in float64 of numbers that are the same but for the order of sums."""


def check_gradient(case: Case) -> None:
    """The gradient is that of the value: along random directions it equals central differences, in float64."""
    if case.stopped:
        if case.reference is None:
            raise Untestable("a case whose targets are `stopped` needs a `reference` for its gradient")
        return
    found = _computed(case)
    for name, gradient in found.gradients.items():
        if name not in _vectors(case):
            continue
        if name in case.detached:
            if gradient.abs().max() > 0:
                raise Fault(case, f"`{name}` gets a gradient, and the case says that it gets none")
            continue
        # Not the seed of the inputs: along themselves, values of normalized vectors do not change.
        draw = torch.Generator().manual_seed(7919)
        direction = torch.randn(gradient.shape, generator=draw, dtype=torch.float64)
        step = 1e-5
        ahead, behind = (_computed(_moved(case, name, sign * step * direction)).value for sign in (1, -1))
        measured, given = float(ahead - behind) / (2 * step), float((gradient * direction).sum())
        if abs(measured - given) > 1e-5 * max(1.0, abs(measured)):
            raise Fault(case, f"the gradient for `{name}` is not that of the value", found=given, expected=measured)


def check_micro_batches(case: Case) -> None:
    """Micro-batches of 1, of 5 and the whole give the same value and gradients."""
    if case.draws:
        return
    whole = _computed(case)
    for size in (1, 5):
        _equal(case, _computed(case, Settings(micro_batch_size=size)), whole, f"micro-batches of {size} change")


def check_draws(case: Case) -> None:
    """Two computations give the same bits; with another seed, too, unless it asks for a `generator`."""
    first, again = _computed(case), _computed(case)
    if not torch.equal(first.value, again.value):
        raise Fault(case, "two computations differ: it keeps state, or draws without an address")
    if "generator" not in binding(case.component).requests and not torch.equal(
        first.value, _computed(case, Settings(seed=1)).value
    ):
        raise Fault(case, "it draws without an address: ask for `generator`")


def check_row_order(case: Case) -> None:
    """The order of rows does not change the value, and orders the gradients."""
    if case.draws:
        return
    size = _size(case)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    whole, shuffled = _computed(case), _computed(case.with_inputs(lambda _, value: _rows(value, order)))
    for name in _vectors(case):
        whole.gradients[name] = whole.gradients[name][order]
    _equal(case, shuffled, whole, "the order of rows changes")


def check_absent_rows(case: Case) -> None:
    """A row that is absent is as if it were not there."""
    if case.draws:
        return
    size = _size(case)
    there = torch.ones(size, dtype=torch.bool)
    there[torch.arange(0, size, 3)] = False
    name = next(iter(_vectors(case)), None)
    if name is None:
        return
    entry = name.split(".")[0]
    masked = _computed(case, Settings(present={entry: there}))
    kept = _computed(case.with_inputs(lambda _, value: _rows(value, there.nonzero().squeeze(1))))
    if masked.rows != int(there.sum()):
        raise Fault(case, "absent rows take part", found=masked.rows, expected=int(there.sum()))
    for each in _vectors(case):
        if masked.gradients[each][~there].abs().max() > 0:
            raise Fault(case, f"absent rows of `{each}` get a gradient")
        masked.gradients[each] = masked.gradients[each][there]
    _equal(case, masked, kept, "absent rows change")


def check_weight_zero(case: Case) -> None:
    """With `rows`, weights of one change nothing, and rows of weight zero leave the value finite."""
    loss = case.component
    assert isinstance(loss, Loss)
    if loss.rows is not None or "weights_of_rows" in case.inputs:
        return
    size = _size(case)
    weighted = replace(case, component=_with_rows(loss, "weights_of_rows"))
    plain = _computed(case)
    try:
        ones = _computed(_with(weighted, "weights_of_rows", torch.ones(size, dtype=torch.float64)))
    except TypeError:
        # One value for the whole batch has no rows to weigh: the core says so.
        return
    _equal(case, ones, plain, "weights of one change")
    weights = torch.ones(size, dtype=torch.float64)
    weights[0] = 0
    if not torch.isfinite(_computed(_with(weighted, "weights_of_rows", weights)).value):
        raise Fault(case, "a row of weight zero makes the value infinite or NaN")


def check_extremes(case: Case) -> None:
    """Value and gradients are finite for large, tiny, zero, equal and single rows."""
    size = _size(case)
    changes: dict[str, Callable[[Input], Input]] = {
        "values times 1e4": lambda value: _mapped(value, lambda tensor: tensor * 1e4),
        "values times 1e-12": lambda value: _mapped(value, lambda tensor: tensor * 1e-12),
        "zeros": lambda value: _mapped(value, torch.zeros_like),
        "equal rows": lambda value: _mapped(value, lambda tensor: tensor[:1].expand_as(tensor).contiguous()),
        "a single row": lambda value: _rows(value, torch.arange(1)),
        "two rows": lambda value: _rows(value, torch.arange(min(2, size))),
    }
    for says, change in changes.items():
        for dtype in (torch.float64, torch.float32):
            found = _computed(case.with_inputs(lambda _, value, change=change: change(value)), Settings(dtype=dtype))
            broken = [name for name, gradient in found.gradients.items() if not torch.isfinite(gradient).all()]
            if not torch.isfinite(found.value):
                raise Fault(case, f"{says} ({dtype}) make the value {float(found.value)}")
            if broken:
                raise Fault(case, f"{says} ({dtype}) make the gradient for `{broken[0]}` infinite or NaN")


def check_precision(case: Case) -> None:
    """A float32 input gives a float32 value near that of float64."""
    exact, single = _computed(case), _computed(case, Settings(dtype=torch.float32))
    if single.value.dtype != torch.float32:
        raise Fault(case, "float32 inputs give another dtype", found=single.value.dtype, expected=torch.float32)
    if abs(float(single.value) - float(exact.value)) > 1e-3 * max(1.0, abs(float(exact.value))):
        raise Fault(case, "float32 is far from float64", found=float(single.value), expected=float(exact.value))


def check_reference(case: Case) -> None:
    """The value and the gradients are those of the author's second way to compute it."""
    if case.reference is None:
        return
    leaves = {
        n: v.clone().requires_grad_() for n, v in case.inputs.items() if isinstance(v, Tensor) and n in _vectors(case)
    }
    value = case.reference(**{**case.inputs, **leaves})
    value.backward()
    own = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    _equal(case, _computed(case), Computed(value.detach(), own), "the reference has another")


def check_ranks(case: Case) -> None:
    """Two processes of one group that call it on the gathered batch get the value that one process gets."""
    assert isinstance(case.component, Loss)
    own = _computed(case)
    for rank, value in enumerate(on_two_ranks(case.component, case.inputs, case.weights)):
        if abs(value - float(own.value)) > _CLOSE * max(1.0, abs(value)):
            says = f"on rank {rank} of 2 its value is another: it asks for the rank, or reduces over ranks itself"
            raise Fault(case, says, found=value, expected=float(own.value))


CHECKS = (
    check_gradient,
    check_micro_batches,
    check_draws,
    check_row_order,
    check_absent_rows,
    check_weight_zero,
    check_extremes,
    check_precision,
    check_reference,
    check_ranks,
)


def _computed(case: Case, settings: Settings = EXACT) -> Computed:
    assert isinstance(case.component, Loss)
    return compute(case.component, case.inputs, settings, case.weights)


def _equal(case: Case, found: Computed, expected: Computed, says: str) -> None:
    scale = max(1.0, abs(float(expected.value)))
    if abs(float(found.value) - float(expected.value)) > _CLOSE * scale:
        raise Fault(case, f"{says} value", found=float(found.value), expected=float(expected.value))
    for name, gradient in expected.gradients.items():
        difference = float((found.gradients[name] - gradient).abs().max()) if gradient.numel() else 0.0
        if difference > _CLOSE * max(1.0, float(gradient.abs().max()) if gradient.numel() else 0.0):
            raise Fault(case, f"{says} gradient for `{name}`", found=f"a difference of {difference:.3g}")


def _vectors(case: Case) -> list[str]:
    """Inputs that have gradients, as `compute_on` names them."""
    found: list[str] = []
    for name, value in case.inputs.items():
        if isinstance(value, Encoding):
            found += [name] if len(value.outputs) == 1 else [f"{name}.{output}" for output in value.outputs]
        elif _moves(value):
            found.append(name)
    return found


def _moves(value: Input) -> bool:
    """Whether an input is an encoder's output rather than a field."""
    if isinstance(value, Tokens):
        return value.values.is_floating_point()
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1


def _size(case: Case) -> int:
    return next(len(v.values if isinstance(v, Tokens) else v) for v in case.inputs.values() if not isinstance(v, Held))


def _rows(value: Input, index: Tensor) -> Input:
    if isinstance(value, Held):
        return value
    if isinstance(value, Encoding):
        return value.rows(index)
    if isinstance(value, Tokens):
        return Tokens(value.values[index], value.mask[index])
    if isinstance(value, Tensor):
        return value[index]
    return [value[int(place)] for place in index]


def _mapped(value: Input, function: Callable[[Tensor], Tensor]) -> Input:
    if isinstance(value, Encoding):
        outputs = {name: _mapped(each, function) for name, each in value.outputs.items()}
        return replace(value, outputs=outputs)
    if isinstance(value, Tokens) and _moves(value):
        return Tokens(function(value.values), value.mask)
    if isinstance(value, Tensor) and value.is_floating_point():
        return function(value)
    return value


def _moved(case: Case, name: str, by: Tensor) -> Case:
    entry, _, output = name.partition(".")

    def move(each: str, value: Input) -> Input:
        if each != entry:
            return value
        if isinstance(value, Encoding):
            wanted = output or next(iter(value.outputs))
            return replace(value, outputs={**value.outputs, wanted: _mapped(value.outputs[wanted], lambda t: t + by)})
        return _mapped(value, lambda tensor: tensor + by)

    return case.with_inputs(move)


def _with(case: Case, name: str, value: Input) -> Case:
    return replace(case, inputs={**case.inputs, name: value})


def _with_rows(loss: Loss, name: str) -> Loss:
    return loss.model_copy(update={"rows": type(loss).model_validate({**_plain(loss), "rows": name}).rows})


def _plain(loss: Loss) -> dict[str, object]:
    declared = loss.declared()
    assert isinstance(declared, dict)
    return {name: value for name, value in declared.items() if name != "use"}
