"""Inputs that the heads share."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin import ComponentError, TensorType

VECTORS = ("vector", "tokens", "grid", "logits")


def projected(given: TensorType, dim: int) -> Mapping[str, TensorType]:
    modality = given.modality if given.modality in ("tokens", "grid") else "vector"
    return {output_of(given): given.with_(modality=modality, size=(*given.size[:-1], dim), names=())}


def output_of(given: TensorType) -> str:
    return given.modality if given.modality in ("tokens", "grid") else "pooled"


def width_of(name: str, given: TensorType) -> int:
    if not given.size or given.size[-1] is None:
        raise ComponentError(f"{name} needs an input of known width", found=f"{given.modality} {list(given.size)}")
    return given.size[-1]
