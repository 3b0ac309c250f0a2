"""Registries for tests of the language."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

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


PLUGIN = '''
from typing import ClassVar

from mmflow.plugin import (
    Bank, ComponentError, Encoded, Encoder, Loss, Ref, Refs, Service, Source, TensorType, hookimpl, outside_identity,
)


class Relabel(Encoder, name="relabel"):
    """A batch node that reads a memory and gives labels."""

    prototypes: Ref[Bank] | None = None

    def scope(self):
        return "batch"

    def outputs(self, *inputs):
        return {"label": TensorType("label", dtype="int64"), "weight": TensorType("number")}


class Folded(Encoder, name="folded"):
    """Forgets the axes of its input, as an author may who writes for rows."""

    accepts = (("image",),)

    def outputs(self, *inputs):
        parts = TensorType("vector", ("sample", "part"), (4,), groups=(3,))
        return {"pooled": TensorType("vector", size=(4,)), "parts": parts}


class Broken(Encoder, name="broken"):
    def outputs(self, *inputs):
        raise ValueError("7 is no multiple of 2")


class Speaker(Encoder, name="speaker"):
    provides = ("next_token",)

    def outputs(self, *inputs):
        return {"pooled": TensorType("vector", size=(4,)), "tokens": TensorType("tokens", size=(None, 4))}


class Heavy(Loss, name="heavy"):
    requires = ("a_module_that_is_not_there",)

    def compute(self, a):
        return a


class Listener(Loss, name="listener"):
    needs = ("next_token",)
    of: Refs[Encoded]

    def compute(self, a):
        return a


class Pair(Loss, name="pair"):
    def compute(self, a, b, c=None):
        return a


class Judge(Service, name="judge"):
    pass


class Graph(Source, name="graph"):
    """Fields without a sample axis."""

    path: str = outside_identity("")

    def fields(self):
        x = TensorType("vector", ("node",), (8,))
        return {"node.x": x, "node.label": TensorType("label", ("node",), dtype="int64")}

    def open(self):
        return None


class Absent(Source, name="absent"):
    def fields(self):
        raise ComponentError("there is no table pictures.csv", hint="did you mean picture.csv?")


class Raising(Source, name="raising"):
    def fields(self):
        raise RuntimeError("boom")


@hookimpl
def mmflow_components():
    classes = [Relabel, Folded, Broken, Speaker, Heavy, Listener, Pair, Judge, Graph, Absent, Raising]
    return {f"{c.kind}/{c.use}": f"{__name__}:{c.__name__}" for c in classes}
'''


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Registry:
    """The installed components and a plugin of this test's own, read from a file."""
    (tmp_path / "a_plugin_of_a_test.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "a_plugin_of_a_test", raising=False)
    registry = Registry.load()
    registry.add("own", lambda: importlib.import_module("a_plugin_of_a_test"), "a-plugin", "1")
    assert [broken.error for broken in registry.broken] == []
    monkeypatch.setattr(registries, "registry", lambda: registry)
    return registry
