from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmflow.plugin.registry import registry
from tests.random_specs.registered import register_partners


@pytest.fixture(scope="module", autouse=True)
def partners() -> Iterator[None]:
    """What random specs are composed of beside what is installed."""
    registry.cache_clear()
    register_partners()
    yield
    registry.cache_clear()
