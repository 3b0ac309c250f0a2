"""Reductions of losses by their definition."""

from typing import Any

from torch import Tensor


def precise(*tensors: Any) -> list[Any]:
    return [t if t is None or t.device.type == "mps" else t.double() for t in tensors]


def reduce(directions: list[tuple[Tensor, Tensor]], weights: list[Tensor | None], reduction: str) -> Tensor:
    parts = []
    for (values, valid), w in zip(directions, weights, strict=True):
        w = valid.to(values.dtype) if w is None else valid * w.to(values.dtype)
        if reduction == "mean":
            parts.append((values * w).sum() / w.sum() if float(w.sum()) else (values * w).sum())
        elif reduction == "sum":
            parts.append((values * w).sum())
        else:
            parts.append(values * w)
    return sum(parts[1:], parts[0]) / len(parts)
