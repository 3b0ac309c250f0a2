"""Rows of nodes: their axis, group axes folded in and out, members picked, and the rows that all inputs have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from torch import Tensor

from mmflow.model.draws import Inputs
from mmflow.plugin.component import ComponentError
from mmflow.plugin.targets import Place, Target
from mmflow.plugin.values import SAMPLE, Argument, Encoding, Tokens, in_all, of_samples, same_rows


def tensor_map(value: Argument, function: Callable[[Tensor], Tensor]) -> Argument:
    """Apply `function` to the tensors of an output: a tensor, `Tokens`, or a list (left alone)."""
    if isinstance(value, Tokens):
        return Tokens(function(value.values), function(value.mask))
    return function(value) if isinstance(value, Tensor) else value


def batch_inputs(reads: Inputs, *, paired: bool = True) -> tuple[dict[Place, Encoding | None], Tensor | None, int]:
    """Keep the rows that are present in all inputs with the row axis: (inputs, index or None, rows kept).

    That axis is the one of the samples, or where no input has samples (one big graph) that of the first input. Rows of
    several streams belong together, one of each; where they are not `paired`, each stream keeps its own, and the index
    is that of the first.
    """
    row = row_axis(list(reads.values()))
    kept, index, count = _present(reads, row, exactly=not paired)
    if not paired:
        axes = [e.axes[0] for e in reads.values() if e is not None and same_rows(e.axes[0], row)]
        for axis in dict.fromkeys(axes):
            kept, _, own = _present(kept, axis, exactly=True) if axis != row else (kept, None, 1)
            count = count if own else 0
    return kept, index, count


def _present(reads: Inputs, row: str, *, exactly: bool) -> tuple[dict[Place, Encoding | None], Tensor | None, int]:
    def belongs(encoding: Encoding) -> bool:
        return encoding.axes[0] == row if exactly else same_rows(encoding.axes[0], row)

    mask: Tensor | None = None
    rows = 0
    for encoding in reads.values():
        if encoding is not None and belongs(encoding):
            if rows and rows != len(encoding):
                raise ComponentError(
                    f"{rows} rows meet {len(encoding)}", hint="streams whose rows pair need batches of one size"
                )
            rows = len(encoding)
            if encoding.present is not None:
                own = encoding.present
                own = own.flatten(1).any(1) if own.ndim > 1 else own
                mask = own if mask is None else mask & own
    if mask is None or bool(mask.all()):
        return dict(reads), None, rows
    index = mask.nonzero().squeeze(1)
    kept = {
        path: encoding.rows(index) if encoding is not None and belongs(encoding) else encoding
        for path, encoding in reads.items()
    }
    return kept, index, int(index.numel())


def taken(encoding: Encoding, index: Encoding) -> Encoding:
    """The rows of an encoding that an index names, which have its axis; a number below zero names none."""
    numbers: Tensor = next(iter(index.outputs.values()))
    found = encoding.rows(numbers.clamp_min(0))
    present = in_all(index.present, found.present)
    if bool((numbers < 0).any()):
        present = in_all(numbers >= 0, present)
    return Encoding(found.outputs, (index.axes[0], *encoding.axes[1:]), present)


def pick(encoding: Encoding, target: Target) -> Encoding:
    """The member of the first group axis that a reference picks."""
    index = target.index
    if len(encoding.axes) < 2:
        raise ComponentError(f"{target}: {target.name} has no group axis to take number {index} of")
    outputs = {
        name: [group[index] for group in v] if isinstance(v, list) else tensor_map(v, lambda t: t[:, index])
        for name, v in encoding.outputs.items()
    }
    present = (
        encoding.present[:, index] if encoding.present is not None and encoding.present.ndim > 1 else encoding.present
    )
    return Encoding(outputs, (encoding.axes[0], *encoding.axes[2:]), present)


def of_rows(axes: tuple[str, ...], present: Tensor | None, count: int) -> tuple[tuple[str, ...], Tensor | None]:
    """The first `count` axes; a row is present where any member inside it is."""
    if present is not None and present.ndim > count:
        present = present.flatten(count).any(count)
    return axes[:count], present


def fold(
    encodings: list[Encoding | None], own_axes: tuple[str, ...]
) -> tuple[tuple[str, ...], list[Encoding | None], tuple[int, ...]]:
    """Fold the group axes that the encoder does not take itself into rows."""
    row = row_axis(encodings)
    axes: tuple[str, ...] = (row,)
    groups: tuple[int, ...] = ()
    for encoding in encodings:
        if encoding is not None and same_rows(encoding.axes[0], row):
            foreign = [a for a in encoding.axes[1:] if a not in own_axes]
            if len(foreign) + 1 > len(axes):
                axes = (row, *foreign)
                groups = _leading(next(iter(encoding.outputs.values())), 1 + len(foreign))[1:]
    if not groups:
        return axes, encodings, ()
    folded: list[Encoding | None] = []
    for encoding in encodings:
        if encoding is None or not same_rows(encoding.axes[0], row):
            folded.append(encoding)
            continue
        count = len([a for a in encoding.axes[1:] if a not in own_axes])
        repeat = prod(groups[count:])

        def flat(tensor: Tensor, count: int = count, repeat: int = repeat) -> Tensor:
            tensor = tensor.flatten(0, count)
            return tensor if repeat == 1 else tensor.repeat_interleave(repeat, 0)

        outputs = {
            name: _members(v, count, repeat) if isinstance(v, list) else tensor_map(v, flat)
            for name, v in encoding.outputs.items()
        }
        # Presence of whole rows alone has fewer axes than the rows that are folded.
        present = encoding.present
        if present is not None:
            present = flat(present) if present.ndim == len(encoding.axes) else None
        folded.append(Encoding(outputs, encoding.axes, present))
    return axes, folded, groups


def folded(reads: Inputs, own_axes: tuple[str, ...], ids: Sequence[str]) -> tuple[Inputs, Sequence[str]]:
    """The values of a row node's references with members of groups as rows, and the ids of these rows."""
    if "*" in own_axes:
        return reads, ids
    # Presence of rows with fewer group axes holds for every member.
    whole = [None if e is None else _with_presence(e) for e in reads.values()]
    _, encodings, groups = fold(whole, own_axes)
    members = prod(groups)
    ids = [f"{id}.{member}" for id in ids for member in range(members)] if members > 1 else ids
    return dict(zip(reads, encodings, strict=True)), ids


def _with_presence(encoding: Encoding) -> Encoding:
    """The encoding with a presence for every member of its groups."""
    present, depth = encoding.present, len(encoding.axes)
    if present is None or present.ndim == depth:
        return encoding
    shape = _leading(next(iter(encoding.outputs.values())), depth)
    present = present.reshape(*present.shape, *[1] * (depth - present.ndim)).expand(shape)
    return Encoding(encoding.outputs, encoding.axes, present)


def row_axis(encodings: list[Encoding | None]) -> str:
    """The axis of the rows that an encoder runs on: static inputs beside samples are the same for every row."""
    rows = [encoding.axes[0] for encoding in encodings if encoding is not None]
    return next(filter(of_samples, rows), None) or next(iter(rows), SAMPLE)


def unfold(value: Argument, groups: tuple[int, ...]) -> Argument:
    if not groups:
        return value
    if isinstance(value, list):
        for size in reversed(groups):
            value = [value[at : at + size] for at in range(0, len(value), size)]
        return value
    return tensor_map(value, lambda t: t.unflatten(0, (-1, *groups)))


def _leading(value: Argument, count: int) -> tuple[int, ...]:
    """The first `count` sizes of an output: of a tensor, of `Tokens`, or of nested lists of one size a level."""
    if not isinstance(value, list):
        return tuple(int(n) for n in (value.mask if isinstance(value, Tokens) else value).shape[:count])
    sizes: list[int] = []
    for _ in range(count):
        sizes.append(len(value))
        value = value[0] if value else []
    return tuple(sizes)


def _members(value: list[Argument], depth: int, repeat: int) -> list[Argument]:
    """The members of nested lists as rows, each as often as `repeat` says."""
    for _ in range(depth):
        value = [member for group in value for member in group]
    return [member for member in value for _ in range(repeat)]
