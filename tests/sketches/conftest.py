"""The stand-ins, registered as an installed plugin registers its components, for the tests of this folder alone."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmflow.plugin import hookimpl
from mmflow.plugin.component import Component
from mmflow.plugin.registry import registry

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def modules() -> Iterator[list[str]]:
    """The modules of the stand-ins, importable by name."""
    sys.path.insert(0, str(HERE))
    yield [f"stand_ins.{file.stem}" for file in sorted((HERE / "stand_ins").glob("[a-z]*.py"))]
    sys.path.remove(str(HERE))


@pytest.fixture(autouse=True)
def stand_ins(modules: list[str]) -> Iterator[None]:
    registry.cache_clear()
    names: dict[str, str] = {}
    for module in map(importlib.import_module, modules):
        for name, made in inspect.getmembers(module, inspect.isclass):
            if issubclass(made, Component) and made.use and made.__module__ == module.__name__:
                names[f"{made.kind}/{made.use}"] = f"{module.__name__}:{name}"
    plugin = SimpleNamespace(mmflow_components=hookimpl(lambda: names))
    registry().add("stand-ins", lambda: plugin, "stand-ins", "0")
    assert registry().broken == []
    yield
    registry.cache_clear()
