"""The conformance kit: tests of components for their authors, by the real training step and the real embedder.

    import pytest
    from mmflow.testing import all_components

    @pytest.mark.components(all_components("my-plugin"))
    def test_components(component_check):
        component_check()

Every component of the distribution gets the checks of its kind. Where the kit cannot make inputs, its author gives a
case (`Case`, `EncoderCase`, ...). `compute_on` gives the value and the gradients of a loss on fixed tensors.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmflow.testing.arrays import Agreement, Arrays
    from mmflow.testing.case import Case, Untestable, all_components, loss_case
    from mmflow.testing.checks.data import DataCase, SourceCase, TransformCase
    from mmflow.testing.checks.encoders import EncoderCase
    from mmflow.testing.checks.evaluators import EvaluatorCase, Inputs
    from mmflow.testing.checks.memories import MemoryCase
    from mmflow.testing.checks.scores import ScoreCase
    from mmflow.testing.checks.stages import StageCase
    from mmflow.testing.compute import Computed, ComputedSum, Held, Settings, compute_on, compute_sum
    from mmflow.testing.faults import Fault
    from mmflow.testing.kit import Check, checks_of

_PLACES = {
    "arrays": ("Agreement", "Arrays"),
    "case": ("Case", "Untestable", "all_components", "loss_case"),
    "checks.data": ("DataCase", "SourceCase", "TransformCase"),
    "checks.encoders": ("EncoderCase",),
    "checks.evaluators": ("EvaluatorCase", "Inputs"),
    "checks.memories": ("MemoryCase",),
    "checks.scores": ("ScoreCase",),
    "checks.stages": ("StageCase",),
    "compute": ("Computed", "ComputedSum", "Held", "Settings", "compute_on", "compute_sum"),
    "faults": ("Fault",),
    "kit": ("Check", "checks_of"),
}


def __getattr__(name: str) -> object:
    # The pytest plugin beside is loaded in every test session: torch must wait until a test asks for it.
    place = next((place for place, names in _PLACES.items() if name in names), None)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{place}"), name)


__all__ = [
    "Agreement",
    "Arrays",
    "Case",
    "Check",
    "Computed",
    "ComputedSum",
    "DataCase",
    "EncoderCase",
    "EvaluatorCase",
    "Fault",
    "Held",
    "Inputs",
    "MemoryCase",
    "ScoreCase",
    "Settings",
    "SourceCase",
    "StageCase",
    "TransformCase",
    "Untestable",
    "all_components",
    "checks_of",
    "compute_on",
    "compute_sum",
    "loss_case",
]
