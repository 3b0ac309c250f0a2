"""Checks and names that the declarations share, in plain Python."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin import ComponentError, TensorType


def check_heads(width: int, heads: int) -> None:
    if width % heads:
        fitting = max(n for n in range(1, heads + 1) if width % n == 0)
        raise ValueError(f"width {width} is no multiple of heads {heads}; {fitting} heads would fit")


def sequence_of(component: str, *sequences: TensorType) -> int:
    """The common width of token sequences, grids or vectors; an error where it is unknown or differs."""
    widths = {s.size[-1] if s.size else None for s in sequences}
    width = widths.pop()
    if widths or width is None:
        found = ", ".join(f"{s.modality} {list(s.size)}" for s in sequences)
        raise ComponentError(f"{component} needs inputs of one known width", found=found)
    return width


def layer_names(depth: int) -> tuple[str, ...]:
    return tuple(f"layers.{i}" for i in range(1, depth + 1))


def tapped(names: tuple[str, ...], output: TensorType) -> Mapping[str, TensorType]:
    return dict.fromkeys(names, output)
