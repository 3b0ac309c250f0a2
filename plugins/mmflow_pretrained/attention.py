"""Attention maps of models of the transformers library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def step_by_step(model: nn.Module) -> Iterator[None]:
    """Let the library compute attention step by step, so that it can give the maps."""
    configurations = {id(c): c for each in model.modules() if (c := getattr(each, "config", None)) is not None}
    configurations = {number: c for number, c in configurations.items() if hasattr(c, "_attn_implementation")}
    before = {}
    try:
        for number, configuration in configurations.items():
            before[number] = configuration._attn_implementation
            configuration._attn_implementation = "eager"
        yield
    finally:
        for number, implementation in before.items():
            configurations[number]._attn_implementation = implementation
