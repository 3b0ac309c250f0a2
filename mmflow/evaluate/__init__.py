"""Embedding data with a model, and measuring the embeddings.

An evaluator is a declaration with a method `evaluate`; `run_evaluator` embeds the data, or finds the encodings in
the store, and calls it. Names are imported when they are used, so that declarations cost no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmflow.evaluate.harness import run_evaluator
    from mmflow.evaluate.rows import Embedder, Rows

__all__ = ["Embedder", "Rows", "run_evaluator"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    homes = {"run_evaluator": "harness", "Embedder": "rows", "Rows": "rows"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
