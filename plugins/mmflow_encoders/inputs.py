"""Kinds of inputs that several encoders take, and the outputs of those that keep the kind."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin import Grid, Pooled, RawField, Refs, TensorType, TokenSequence

MOST = 32
"""Inputs that a fusion takes at most."""

VECTORS = ("vector", "tokens", "grid", "logits")
SEQUENCES = ("tokens", "grid", "vector")

Sequences = Refs[TokenSequence | Grid | Pooled | RawField]

GROUPS = ("copy", "frame", "caption", "candidate", "object", "item", "step")
"""Group axes along which vectors can be stacked or pooled."""


def projected(given: TensorType, dim: int) -> Mapping[str, TensorType]:
    """The output of a map of the last axis: a vector, tokens or a grid, as the input is, with another width."""
    modality = given.modality if given.modality in ("tokens", "grid") else "vector"
    return {output_of(given): given.with_(modality=modality, size=(*given.size[:-1], dim), names=())}


def output_of(given: TensorType) -> str:
    """The name of an output of the same kind as the input."""
    return given.modality if given.modality in ("tokens", "grid") else "pooled"
