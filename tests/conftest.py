"""One thread a process: results do not depend on it, and spinning threads on a busy core take many times as long.

Property tests draw the same examples every time, so that they pass again. Tests without another marker are `fast`.
Without a GPU, Triton kernels run in its interpreter: the switch is read when anything first imports Triton.
"""

import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from hypothesis import settings

from mmflow.plugin import Component, hookimpl
from mmflow.plugin.registry import registry
from mmflow.redaction import forget

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("mmflow", derandomize=True, deadline=None)
settings.load_profile("mmflow")


def _interpret_triton() -> None:
    # Torch reads the number of threads when it is imported.
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")


_interpret_triton()

SLOWER = ("slow", "process", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not any(item.get_closest_marker(name) for name in SLOWER):
            item.add_marker("fast")


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests() -> Iterator[None]:
    """Values that a test took from the environment are no secrets of the next one."""
    yield
    forget()


Register = Callable[..., None]


@pytest.fixture
def register() -> Iterator[Register]:
    """Register component classes of a test's module for one test, as an installed plugin does."""
    registry.cache_clear()

    def add(*components: type[Component]) -> None:
        names = {f"{made.kind}/{made.use}": f"{made.__module__}:{made.__qualname__}" for made in components}
        plugin = SimpleNamespace(mmflow_components=hookimpl(lambda: names))
        registry().add(f"tests-{'-'.join(names)}", lambda: plugin, "components-of-tests", "0")
        assert registry().broken == []

    yield add
    registry.cache_clear()
