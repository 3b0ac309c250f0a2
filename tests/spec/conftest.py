"""Registries for tests of the language."""

from __future__ import annotations

import pytest

from mmflow.plugin import registry as registries
from mmflow.plugin.registry import Registry


@pytest.fixture
def core_only(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with what the core itself registers and nothing of any plugin."""
    from mmflow.plugin import builtin

    registry = Registry()
    registry.add("core", lambda: builtin, "mmflow-kit", "0")
    monkeypatch.setattr(registries, "registry", lambda: registry)
    return registry
