"""One thread a process: results do not depend on it, and spinning threads on a busy core take many times as long.

Property tests draw the same examples every time, so that they pass again. Tests without another marker are `fast`.
"""

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("mmflow", derandomize=True, deadline=None)
settings.load_profile("mmflow")

SLOWER = ("slow", "process", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not any(item.get_closest_marker(name) for name in SLOWER):
            item.add_marker("fast")
