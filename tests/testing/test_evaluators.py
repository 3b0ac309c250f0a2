"""Every evaluator that ships keeps the promises of its kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.testing.evaluator_cases import EVALUATOR_CASES

pytestmark = pytest.mark.slow

OTHERS = ("stage/knn", "stage/linear_probe", "stage/spectrum", "stage/representation_similarity")


@pytest.mark.components(OTHERS, cases=EVALUATOR_CASES)
def test_promises(component_check: Callable[[], None]) -> None:
    component_check()
