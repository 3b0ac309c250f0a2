"""Inputs that the heads share."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin import TensorType

VECTORS = ("vector", "tokens", "grid", "logits")


def projected(given: TensorType, dim: int) -> Mapping[str, TensorType]:
    modality = given.modality if given.modality in ("tokens", "grid") else "vector"
    return {output_of(given): given.with_(modality=modality, size=(*given.size[:-1], dim), names=())}


def output_of(given: TensorType) -> str:
    return given.modality if given.modality in ("tokens", "grid") else "pooled"
