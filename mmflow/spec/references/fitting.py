"""Components that fit where another does not: searched for hints, once something is wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mmflow.plugin.component import Component
from mmflow.plugin.kinds import Transform
from mmflow.plugin.registry import registry
from mmflow.plugin.values import TensorType

MOST = 3
"""Transforms at most that are worth proposing."""


def transforms_to(declared: TensorType, accepts: Collection[str]) -> str:
    """Transforms that make a modality in `accepts` of a value, in words; empty where there are none, or too many."""
    found = []
    for name, transform in _installed("transform"):
        try:
            made = transform.model_validate({})
            result = made.result(declared) if isinstance(made, Transform) else declared
        except ValueError:  # it needs fields, or does not take such values
            continue
        if result.modality in accepts:
            found.append(name)
    return " or ".join(found) if len(found) <= MOST else ""


def scores_that_need(output: str) -> list[str]:
    """Names of the scores that read one output alone, first those without weights, which need no training."""
    found = [(hasattr(score, "build"), name) for name, score in _installed("score") if tuple(score.needs) == (output,)]
    return [name for _, name in sorted(found)]


def _installed(kind: str) -> Iterator[tuple[str, type[Component]]]:
    for name in registry().names(kind):
        try:
            yield name, registry().get(kind, name)
        except ValueError:  # it cannot be imported
            continue
