"""Inputs that the fusions share."""

from __future__ import annotations

from mmflow.plugin import (
    Grid,
    Pooled,
    RawField,
    Refs,
    TokenSequence,
)

SEQUENCES = ("tokens", "grid", "vector")


Sequences = Refs[TokenSequence | Grid | Pooled | RawField]


GROUPS = ("copy", "frame", "caption", "candidate", "object", "item", "step")
"""Group axes along which vectors can be stacked or pooled."""
